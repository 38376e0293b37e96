// Opens a model: header, vocabulary, layout, and the facts a person asks for.
#include <outrigger/model.h>

#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/model/config.h"
#include "src/model/hf_model.h"
#include "src/model/model_impl.h"
#include "src/model/tokenizer_build.h"

// A failure to get memory is reported in words short enough to need none.
namespace outrigger {
namespace {

std::string string_or_empty(const GgufFile& file, std::string_view key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr || value->type() != GgufType::kString) return {};
  Result<std::string_view> text = value->as_string();
  return text.is_ok() ? std::string(text.value()) : std::string();
}

// For the report on files that cannot run: whatever number stands there, 0 if none does.
uint64_t number_or_zero(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return 0;
  Result<uint64_t> number = value->as_u64();
  return number.is_ok() ? number.value() : 0;
}

void describe(Model::Impl& model) {
  const GgufFile& file = model.file;
  ModelInfo& info = model.info;
  info.file = file.source().name();
  info.name = string_or_empty(file, "general.name");
  info.architecture = string_or_empty(file, "general.architecture");
  info.bytes = file.source().stored_bytes();
  uint64_t tensor_bytes = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    info.parameters += tensor.elements();
    tensor_bytes += tensor.bytes;
    info.is_packed = info.is_packed || tensor.is_packed;
  }
  if (info.parameters > 0) info.bits_per_weight = 8.0 * static_cast<double>(tensor_bytes) / static_cast<double>(info.parameters);
  const auto number = [&](const char* name) { return number_or_zero(file, info.architecture + "." + name); };
  info.context_tokens = number("context_length");
  info.layers = static_cast<uint32_t>(number("block_count"));
  info.heads = static_cast<uint32_t>(number("attention.head_count"));
  info.kv_heads = static_cast<uint32_t>(number("attention.head_count_kv"));
  if (info.kv_heads == 0) info.kv_heads = info.heads;
  info.width = number("embedding_length");
  info.head_dim = static_cast<uint32_t>(number("attention.key_length"));
  if (info.head_dim == 0 && info.heads > 0) info.head_dim = static_cast<uint32_t>(info.width / info.heads);
  info.ffn_width = number("feed_forward_length");
  if (const GgufValue* tokens = file.find("tokenizer.ggml.tokens")) info.vocabulary_tokens = tokens->count();
  if (model.tokenizer) {
    info.tokenizer = model.tokenizer->kind();
    info.chat_template = model.tokenizer->chat_template();
  }
  if (info.chat_template.empty() && file.find("tokenizer.chat_template") != nullptr) info.chat_template = "unrecognised";
}

// A file may do without a vocabulary, or have one this version does not know: its tokens can still be run by number.
Status find_tokenizer(Model::Impl& model) {
  if (!model.tokenizer_status.is_ok()) return {};
  if (model.file.find("tokenizer.ggml.model") == nullptr && model.file.find("tokenizer.ggml.tokens") == nullptr) {
    model.tokenizer_status = Status(StatusCode::kUnsupported, "the file brings no tokenizer").in_file(model.file.source().name());
    return {};
  }
  Result<Tokenizer> tokenizer = build_tokenizer(model.file);
  model.tokenizer_status = tokenizer.status();
  if (tokenizer.is_ok()) model.tokenizer = std::move(tokenizer).value();
  return model.tokenizer_status.code() == StatusCode::kUnsupported ? Status() : model.tokenizer_status;
}

// A contradiction in a file that we claim to know is an error; something we do not do is a reason.
Status lay_out(Model::Impl& model) {
  const GgufFile& file = model.file;
  if (file.tensors().empty())
    return Status(StatusCode::kUnsupported, "the file holds a vocabulary and no weights").in_file(file.source().name());
  if (string_or_empty(file, "general.type") == "adapter") {
    return Status(StatusCode::kUnsupported, "the file is an adapter, which changes a model, and not a model").in_file(file.source().name());
  }
  OTR_ASSIGN(const ModelConfig config, read_config(file));
  OTR_ASSIGN(ModelLayout layout, lay_out_model(file, config));
  if (model.info.vocabulary_tokens != 0 && model.info.vocabulary_tokens != layout.vocabulary) {
    return Status(StatusCode::kCorruptFile, formatted("the vocabulary has {} tokens, but token_embd.weight has {} rows",
                                                      model.info.vocabulary_tokens, layout.vocabulary))
        .in_file(file.source().name())
        .about("token_embd.weight");
  }
  model.info.vocabulary_tokens = layout.vocabulary;
  model.info.context_tokens = layout.shape.context_tokens;
  model.layout = std::move(layout);
  return {};
}

// The statuses of `model` may say already that there is no tokenizer, or that it cannot run.
Result<Model> build_model(std::shared_ptr<Model::Impl> model) {
  if (const GgufValue* architecture = model->file.find("general.architecture")) OTR_TRY(architecture->as_string().status());

  OTR_TRY(find_tokenizer(*model));

  describe(*model);
  if (model->run_status.is_ok()) model->run_status = lay_out(*model);
  if (!model->run_status.is_ok() && model->run_status.code() != StatusCode::kUnsupported) return model->run_status;
  model->info.can_run = model->run_status.is_ok();
  model->info.why_not = model->run_status.message();
  model->file.release_arrays();
  return Model(std::move(model));
}

Result<Model> build_model(std::shared_ptr<const ByteSource> source) {
  OTR_ASSIGN(GgufFile file, GgufFile::open(std::move(source)));
  return build_model(std::make_shared<Model::Impl>(std::move(file)));
}

Result<Model> open_folder(const HfFolder& folder, DirectIo direct) {
  OTR_ASSIGN(HfModel made, open_hf_model(folder, direct));
  Result<GgufFile> file = GgufFile::open(made.source, kSafetensorsMaxNameBytes);
  if (!file.is_ok()) return as_in_folder(file.status(), folder, made.architecture);
  made.source->forget_header();
  auto model = std::make_shared<Model::Impl>(std::move(file).value());
  model->folder = folder;
  model->run_status = std::move(made.cannot_run);
  model->tokenizer_status = std::move(made.no_tokenizer);
  Result<Model> built = build_model(model);
  if (!built.is_ok()) return as_in_folder(built.status(), folder, made.architecture);
  model->run_status = as_in_folder(std::move(model->run_status), folder, made.architecture);
  model->tokenizer_status = as_in_folder(std::move(model->tokenizer_status), folder, made.architecture);
  return built;
}

}  // namespace

Result<Model> Model::open(const std::string& path, const ModelOptions& options) try {
  const DirectIo direct = options.disk_direct == DiskDirect::kOn    ? DirectIo::kOn
                          : options.disk_direct == DiskDirect::kOff ? DirectIo::kOff
                                                                    : DirectIo::kAuto;
  if (const std::optional<HfFolder> folder = HfFolder::find(path)) return open_folder(*folder, direct);
  OTR_ASSIGN(std::shared_ptr<const ByteSource> source, open_file(path, direct));
  return build_model(std::move(source));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<Model> Model::open_memory(std::span<const std::byte> bytes) try {
  return build_model(wrap_memory(bytes));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

const ModelInfo& Model::info() const { return impl_->info; }

std::vector<TensorInfo> Model::tensors() const {
  std::vector<TensorInfo> all;
  for (const GgufTensor& tensor : impl_->file.tensors()) {
    BytePlace place = impl_->file.source().locate(tensor.offset);
    all.push_back({tensor.name,
                   traits(tensor.type).name,
                   {tensor.dims.begin(), tensor.dims.begin() + tensor.rank},
                   tensor.bytes,
                   place.offset,
                   std::move(place.file),
                   tensor.is_packed});
  }
  return all;
}

Result<Tokenizer> Model::tokenizer() const {
  if (!impl_->tokenizer) return impl_->tokenizer_status;
  return *impl_->tokenizer;
}

Result<StepShape> Model::step_shape() const try {
  if (!impl_->layout) return impl_->run_status;
  return impl_->layout->shape;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
