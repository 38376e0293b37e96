// C API: models, tokens and text.
#include "capi/capi_common.h"

using outrigger::Model;
using outrigger::ModelInfo;
using outrigger::Result;
using outrigger::Status;
using outrigger::Token;
using outrigger::Tokenizer;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

constexpr otr_model_options kModelDefaults = {sizeof(otr_model_options), OTR_DISK_DIRECT_AUTO};

otr_pack_options pack_defaults() {
  otr_pack_options options = {};
  options.struct_size = sizeof options;
  return options;
}

Result<Tokenizer> tokenizer_of(const otr_model* model) {
  OTR_CAPI_TRY(require(model, "model"));
  return model->model.tokenizer();
}

void fill_special_tokens(const Result<Tokenizer>& tokenizer, otr_model_info* info) {
  info->bos = info->eos = -1;
  if (!tokenizer.is_ok()) return;
  info->bos = tokenizer.value().bos();
  info->eos = tokenizer.value().eos();
  info->adds_bos = tokenizer.value().adds_bos();
}

}  // namespace

void otr_model_options_init(otr_model_options* options, uint32_t struct_size) { init(options, struct_size, kModelDefaults); }

otr_status otr_model_open(const char* path, const otr_model_options* options, otr_model** model, otr_error* error) {
  if (model != nullptr) *model = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(path, "path"));
    OTR_CAPI_TRY(require(model, "model"));
    otr_model_options known = kModelDefaults;
    OTR_CAPI_TRY(read_options(options, "options", &known));
    if (known.disk_direct < OTR_DISK_DIRECT_AUTO || known.disk_direct > OTR_DISK_DIRECT_OFF) {
      return invalid("options.disk_direct: got " + std::to_string(known.disk_direct) + ", need 0 (auto), 1 (on) or 2 (off)");
    }
    return give_handle(Model::open(path, {static_cast<outrigger::DiskDirect>(known.disk_direct)}), model, false);
  });
}

otr_status otr_model_open_memory(const void* bytes, size_t size, otr_model** model, otr_error* error) {
  if (model != nullptr) *model = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(bytes, size, "bytes"));
    OTR_CAPI_TRY(require(model, "model"));
    return give_handle(Model::open_memory(std::span(static_cast<const std::byte*>(bytes), size)), model, true);
  });
}

void otr_model_close(otr_model** model) { close(model); }

otr_status otr_model_get_info(const otr_model* model, otr_model_info* info, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(check_info(info, "info"));
    const ModelInfo& known = model->model.info();
    otr_model_info full = {};
    full.can_run = known.can_run;
    full.file = known.file.c_str();
    full.name = known.name.c_str();
    full.architecture = known.architecture.c_str();
    full.why_not = known.why_not.c_str();
    full.tokenizer = known.tokenizer.c_str();
    full.chat_template = known.chat_template.c_str();
    full.parameters = known.parameters;
    full.bytes = known.bytes;
    full.bits_per_weight = known.bits_per_weight;
    full.context_tokens = known.context_tokens;
    full.width = known.width;
    full.ffn_width = known.ffn_width;
    full.vocabulary_tokens = known.vocabulary_tokens;
    full.tensors = model->tensors.size();
    full.layers = known.layers;
    full.heads = known.heads;
    full.kv_heads = known.kv_heads;
    full.head_dim = known.head_dim;
    full.is_packed = known.is_packed;
    fill_special_tokens(model->model.tokenizer(), &full);
    give_info(full, info);
    return {};
  });
}

otr_status otr_model_get_tensor(const otr_model* model, uint64_t index, otr_tensor_info* info, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(check_info(info, "info"));
    if (index >= model->tensors.size()) {
      return invalid("index: got " + std::to_string(index) + ", need less than the model's " + std::to_string(model->tensors.size()) +
                     " tensors");
    }
    const outrigger::TensorInfo& tensor = model->tensors[index];
    otr_tensor_info full = {};
    full.axes = static_cast<uint32_t>(tensor.shape.size());
    full.name = tensor.name.c_str();
    full.type = tensor.type.c_str();
    full.shape = tensor.shape.data();
    full.bytes = tensor.bytes;
    full.file_offset = tensor.file_offset;
    give_info(full, info);
    return {};
  });
}

void otr_pack_options_init(otr_pack_options* options, uint32_t struct_size) { init(options, struct_size, pack_defaults()); }

otr_status otr_model_pack(const otr_model* model, const char* path, const otr_pack_options* options, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(require(path, "path"));
    otr_pack_options known = pack_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
    return outrigger::pack_model(model->model, path, {progress_of(known.progress, known.user), token_of(known.cancel)});
  });
}

otr_status otr_model_tokenize(const otr_model* model, const char* text, size_t text_bytes, uint32_t flags, int32_t* tokens, size_t capacity,
                              size_t* count, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(text, text_bytes, "text"));
    OTR_CAPI_TRY(require(count, "count"));
    OTR_CAPI_TRY(check_flags(flags, OTR_TOKENIZE_ADD_SPECIAL | OTR_TOKENIZE_PARSE_SPECIAL, "flags"));
    OTR_CAPI_ASSIGN(tokenizer, tokenizer_of(model));
    const Tokenizer::EncodeOptions options = {(flags & OTR_TOKENIZE_ADD_SPECIAL) != 0, (flags & OTR_TOKENIZE_PARSE_SPECIAL) != 0};
    OTR_CAPI_ASSIGN(encoded, tokenizer.encode(std::string_view(text, text_bytes), options));
    return give_array<int32_t>(encoded, tokens, capacity, count);
  });
}

otr_status otr_model_chat(const otr_model* model, const otr_chat_message* messages, size_t message_count, const char* template_name,
                          int32_t* tokens, size_t capacity, size_t* count, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(messages, message_count, "messages"));
    OTR_CAPI_TRY(require(count, "count"));
    OTR_CAPI_ASSIGN(tokenizer, tokenizer_of(model));
    std::vector<outrigger::ChatMessage> turns;
    for (const otr_chat_message& message : std::span(messages, message_count)) {
      OTR_CAPI_TRY(require(message.role, "role"));
      OTR_CAPI_TRY(require_array(message.content, message.content_bytes, "content"));
      turns.push_back({message.role, std::string(message.content_bytes > 0 ? message.content : "", message.content_bytes)});
    }
    OTR_CAPI_ASSIGN(encoded, tokenizer.chat(turns, template_name != nullptr ? template_name : ""));
    return give_array<int32_t>(encoded, tokens, capacity, count);
  });
}

const char* otr_chat_template_name(size_t index) {
  const std::span<const char* const> names = Tokenizer::chat_template_names();
  return index < names.size() ? names[index] : nullptr;
}

otr_status otr_model_detokenize(const otr_model* model, const int32_t* tokens, size_t token_count, uint32_t flags, char* text,
                                size_t capacity, size_t* bytes, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(tokens, token_count, "tokens"));
    OTR_CAPI_TRY(require(bytes, "bytes"));
    OTR_CAPI_TRY(check_flags(flags, OTR_TEXT_WITH_SPECIAL, "flags"));
    OTR_CAPI_ASSIGN(tokenizer, tokenizer_of(model));
    OTR_CAPI_ASSIGN(decoded, tokenizer.decode(std::span(tokens, token_count), flags != 0));
    return give_text(decoded, text, capacity, bytes);
  });
}

otr_status otr_model_token_text(const otr_model* model, int32_t token, uint32_t flags, char* text, size_t capacity, size_t* bytes,
                                otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(bytes, "bytes"));
    OTR_CAPI_TRY(check_flags(flags, OTR_TEXT_WITH_SPECIAL, "flags"));
    OTR_CAPI_ASSIGN(tokenizer, tokenizer_of(model));
    OTR_CAPI_ASSIGN(piece, tokenizer.piece(token, flags != 0));
    return give_text(piece, text, capacity, bytes);
  });
}

otr_status otr_model_token_ends_generation(const otr_model* model, int32_t token, int32_t* ends, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(ends, "ends"));
    OTR_CAPI_ASSIGN(tokenizer, tokenizer_of(model));
    if (token < 0 || token >= tokenizer.vocabulary_tokens()) {
      return invalid("token: got " + std::to_string(token) + ", need 0 to " + std::to_string(tokenizer.vocabulary_tokens() - 1));
    }
    *ends = tokenizer.ends_generation(token);
    return {};
  });
}

otr_status otr_text_stream_create(const otr_model* model, uint32_t flags, otr_text_stream** stream, otr_error* error) {
  if (stream != nullptr) *stream = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(stream, "stream"));
    OTR_CAPI_TRY(check_flags(flags, OTR_TEXT_WITH_SPECIAL, "flags"));
    OTR_CAPI_ASSIGN(tokenizer, tokenizer_of(model));
    *stream = new otr_text_stream{outrigger::TextStream(tokenizer, flags != 0), {}};
    return {};
  });
}

namespace {

Status give_stream_text(Result<std::string> made, otr_text_stream* stream, const char** text, size_t* bytes) {
  OTR_CAPI_TRY(made.status());
  stream->text = std::move(made).value();
  *text = stream->text.c_str();
  *bytes = stream->text.size();
  return {};
}

Status check_stream(const otr_text_stream* stream, const char** text, size_t* bytes) {
  OTR_CAPI_TRY(require(stream, "stream"));
  OTR_CAPI_TRY(require(text, "text"));
  return require(bytes, "bytes");
}

}  // namespace

otr_status otr_text_stream_push(otr_text_stream* stream, int32_t token, const char** text, size_t* bytes, otr_error* error) {
  if (text != nullptr) *text = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(check_stream(stream, text, bytes));
    return give_stream_text(stream->stream.push(token), stream, text, bytes);
  });
}

otr_status otr_text_stream_finish(otr_text_stream* stream, const char** text, size_t* bytes, otr_error* error) {
  if (text != nullptr) *text = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(check_stream(stream, text, bytes));
    return give_stream_text(stream->stream.finish(), stream, text, bytes);
  });
}

void otr_text_stream_close(otr_text_stream** stream) { close(stream); }
