/* Version, models, tokens and text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

void the_library_says_what_it_is(void) {
  otr_build_info info = {sizeof info};
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", OTR_VERSION_MAJOR, OTR_VERSION_MINOR, OTR_VERSION_PATCH);
  CHECK_C(strcmp(otr_version(), version) == 0);
  CHECK_C(otr_version_number() == OTR_VERSION_MAJOR * 10000 + OTR_VERSION_MINOR * 100 + OTR_VERSION_PATCH);
  CHECK_C(otr_abi_version() == OTR_ABI_VERSION);
  CHECK_C(strcmp(otr_status_name(OTR_OK), "OK") == 0);
  CHECK_C(strcmp(otr_status_name(OTR_BUDGET), "BUDGET") == 0);
  CHECK_C(strcmp(otr_status_name(-7), "UNKNOWN") == 0);

  NEED_C(otr_get_build_info(&info, NULL) == OTR_OK);
  CHECK_C(info.struct_size == sizeof info);
  CHECK_C(info.abi_version == OTR_ABI_VERSION);
  CHECK_C(strcmp(info.version, version) == 0);
  CHECK_C(info.compiler[0] != '\0');
  CHECK_C(strstr(info.simd_built, info.simd_in_use) != NULL);
  CHECK_C(info.usable_cores >= 1);
}

static void check_tiny_facts(const otr_model* model) {
  otr_model_info info = {sizeof info};
  otr_tensor_info tensor = {sizeof tensor};
  uint64_t i, elements = 0;
  NEED_C(otr_model_get_info(model, &info, NULL) == OTR_OK);
  CHECK_C(info.can_run == 1);
  CHECK_C(info.why_not[0] == '\0');
  CHECK_C(strcmp(info.architecture, "llama") == 0);
  CHECK_C(strcmp(info.name, "tied-q4_1") == 0);
  CHECK_C(info.layers == 2 && info.heads == 4 && info.kv_heads == 2 && info.head_dim == 16);
  CHECK_C(info.width == 64 && info.ffn_width == 160 && info.context_tokens == 256);
  CHECK_C(info.vocabulary_tokens == 261);
  CHECK_C(info.bos == 256 && info.eos == 257);
  CHECK_C(strstr(info.tokenizer, "gpt-2") != NULL);
  CHECK_C(info.chat_template[0] == '\0');
  CHECK_C(info.bits_per_weight > 5 && info.bits_per_weight < 6); /* Q4_1 is 5 bits, a few norms are 32 */

  for (i = 0; i < info.tensors; ++i) {
    uint64_t product = 1;
    uint32_t axis;
    NEED_C(otr_model_get_tensor(model, i, &tensor, NULL) == OTR_OK);
    for (axis = 0; axis < tensor.axes; ++axis) product *= tensor.shape[axis];
    elements += product;
    CHECK_C(tensor.file_offset + tensor.bytes <= info.bytes);
  }
  CHECK_C(elements == info.parameters);
  NEED_C(otr_model_get_tensor(model, 0, &tensor, NULL) == OTR_OK);
  CHECK_C(strcmp(tensor.name, "token_embd.weight") == 0 && strcmp(tensor.type, "Q4_1") == 0);
  CHECK_C(tensor.axes == 2 && tensor.shape[0] == 64 && tensor.shape[1] == 261);
  CHECK_C(otr_model_get_tensor(model, info.tensors, &tensor, NULL) == OTR_INVALID_ARGUMENT);
}

void a_model_says_what_it_is(void) {
  otr_error error = {sizeof error};
  otr_model_options options;
  otr_model_info info = {sizeof info};
  otr_model* model = NULL;
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  CHECK_C(error.status == OTR_OK && error.message[0] == '\0');
  check_tiny_facts(model);
  CHECK_C(otr_model_get_info(model, &info, NULL) == OTR_OK && strcmp(info.file, tiny_model_path()) == 0);
  otr_model_close(&model);
  CHECK_C(model == NULL);

  otr_model_options_init(&options, sizeof options);
  CHECK_C(options.disk_direct == OTR_DISK_DIRECT_AUTO);
  options.disk_direct = OTR_DISK_DIRECT_OFF;
  CHECK_C(otr_model_open(tiny_model_path(), &options, &model, &error) == OTR_OK);
  otr_model_close(&model);
  options.disk_direct = 3;
  CHECK_C(otr_model_open(tiny_model_path(), &options, &model, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(strstr(error.message, "disk_direct") != NULL);

  CHECK_C(otr_model_open("/no/such/model.gguf", NULL, &model, &error) == OTR_NOT_FOUND);
  CHECK_C(model == NULL && error.status == OTR_NOT_FOUND);
  CHECK_C(strcmp(error.file, "/no/such/model.gguf") == 0 && strstr(error.message, error.file) != NULL);
}

void a_model_opens_from_memory(void) {
  otr_error error = {sizeof error};
  otr_model_info info = {sizeof info};
  otr_model* model = NULL;
  FILE* file = fopen(tiny_model_path(), "rb");
  char* bytes;
  long size;
  NEED_C(file != NULL);
  fseek(file, 0, SEEK_END);
  size = ftell(file);
  rewind(file);
  bytes = malloc((size_t)size);
  NEED_C(bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size);
  fclose(file);

  NEED_C(otr_model_open_memory(bytes, (size_t)size, &model, &error) == OTR_OK);
  check_tiny_facts(model);
  CHECK_C(otr_model_get_info(model, &info, NULL) == OTR_OK && strcmp(info.file, "memory") == 0);
  otr_model_close(&model);

  CHECK_C(otr_model_open_memory(bytes, (size_t)size / 2, &model, &error) == OTR_CORRUPT_FILE);
  CHECK_C(model == NULL && error.message[0] != '\0');
  CHECK_C(otr_model_open_memory(NULL, 0, &model, &error) == OTR_CORRUPT_FILE);
  bytes[0] = 'X';
  CHECK_C(otr_model_open_memory(bytes, (size_t)size, &model, &error) == OTR_CORRUPT_FILE);
  free(bytes);
}

void text_becomes_tokens_and_comes_back(void) {
  static const char text[] = "the thin \xC3\xA9nd\0!";
  const size_t text_bytes = sizeof text - 1;
  otr_error error = {sizeof error};
  otr_model* model = NULL;
  int32_t tokens[32], ends = -1;
  char back[64];
  size_t count = 0, bytes = 0;
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);

  NEED_C(otr_model_tokenize(model, text, text_bytes, 0, NULL, 0, &count, &error) == OTR_OK);
  CHECK_C(count > 0 && count < text_bytes); /* "th", "he" and "in" are one token each */
  bytes = count;
  tokens[0] = -5;
  CHECK_C(otr_model_tokenize(model, text, text_bytes, 0, tokens, count - 1, &bytes, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(bytes == count && tokens[0] == -5);
  NEED_C(otr_model_tokenize(model, text, text_bytes, 0, tokens, 32, &bytes, &error) == OTR_OK);
  CHECK_C(tokens[0] == 258); /* "th" */

  CHECK_C(otr_model_detokenize(model, tokens, count, 0, NULL, 0, &bytes, &error) == OTR_OK && bytes == text_bytes);
  CHECK_C(otr_model_detokenize(model, tokens, count, 0, back, text_bytes, &bytes, &error) ==
          OTR_INVALID_ARGUMENT); /* no room for the NUL */
  CHECK_C(otr_model_detokenize(model, tokens, count, 0, back, text_bytes + 1, &bytes, &error) == OTR_OK);
  CHECK_C(bytes == text_bytes && memcmp(back, text, text_bytes + 1) == 0);
  CHECK_C(otr_model_detokenize(model, NULL, 0, 0, back, sizeof back, &bytes, &error) == OTR_OK && bytes == 0 && back[0] == '\0');

  tokens[0] = 257;
  CHECK_C(otr_model_token_text(model, 257, 0, back, sizeof back, &bytes, &error) == OTR_OK && bytes == 0);
  CHECK_C(otr_model_token_text(model, 257, OTR_TEXT_WITH_SPECIAL, back, sizeof back, &bytes, &error) == OTR_OK &&
          strcmp(back, "<eos>") == 0);
  CHECK_C(otr_model_detokenize(model, tokens, 1, OTR_TEXT_WITH_SPECIAL, back, sizeof back, &bytes, &error) == OTR_OK &&
          strcmp(back, "<eos>") == 0);
  CHECK_C(otr_model_tokenize(model, "<eos>", 5, 0, NULL, 0, &count, &error) == OTR_OK && count == 5);
  CHECK_C(otr_model_tokenize(model, "<eos>", 5, OTR_TOKENIZE_PARSE_SPECIAL, tokens, 32, &count, &error) == OTR_OK && count == 1 &&
          tokens[0] == 257);
  CHECK_C(otr_model_tokenize(model, "x", 1, 4, NULL, 0, &count, &error) == OTR_INVALID_ARGUMENT);

  CHECK_C(otr_model_token_ends_generation(model, 257, &ends, &error) == OTR_OK && ends == 1);
  CHECK_C(otr_model_token_ends_generation(model, 'a', &ends, &error) == OTR_OK && ends == 0);
  CHECK_C(otr_model_token_ends_generation(model, -1, &ends, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_token_ends_generation(model, 261, &ends, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_token_text(model, 261, 0, back, sizeof back, &bytes, &error) == OTR_INVALID_ARGUMENT);
  tokens[0] = -1;
  CHECK_C(otr_model_detokenize(model, tokens, 1, 0, back, sizeof back, &bytes, &error) == OTR_INVALID_ARGUMENT);
  otr_model_close(&model);
}

void a_text_stream_never_splits_a_character(void) {
  otr_error error = {sizeof error};
  otr_model* model = NULL;
  otr_text_stream* stream = NULL;
  const char* text = NULL;
  size_t bytes = 9;
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  NEED_C(otr_text_stream_create(model, 0, &stream, &error) == OTR_OK);
  otr_model_close(&model); /* the stream keeps what it needs */
  CHECK_C(otr_text_stream_push(stream, 0xC3, &text, &bytes, &error) == OTR_OK && bytes == 0 && text[0] == '\0');
  CHECK_C(otr_text_stream_push(stream, 0xA9, &text, &bytes, &error) == OTR_OK && strcmp(text, "\xC3\xA9") == 0 && bytes == 2);
  CHECK_C(otr_text_stream_push(stream, 261, &text, &bytes, &error) == OTR_INVALID_ARGUMENT && text == NULL);
  CHECK_C(otr_text_stream_push(stream, 0xC3, &text, &bytes, &error) == OTR_OK && bytes == 0);
  CHECK_C(otr_text_stream_finish(stream, &text, &bytes, &error) == OTR_OK && strcmp(text, "\xEF\xBF\xBD") == 0);
  otr_text_stream_close(&stream);
  CHECK_C(stream == NULL);
}

void a_chat_becomes_tokens(void) {
  otr_chat_message messages[] = {{"system", "be brief", 8}, {"user", "hi <eos>", 8}, {"user", NULL, 0}};
  otr_error error = {sizeof error};
  otr_model* model = NULL;
  int32_t tokens[256];
  size_t i, count = 0, names = 0;
  int has_chatml = 0;
  while (otr_chat_template_name(names) != NULL) has_chatml |= strcmp(otr_chat_template_name(names++), "chatml") == 0;
  CHECK_C(names >= 7 && has_chatml);
  CHECK_C(otr_chat_template_name((size_t)-1) == NULL);

  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  NEED_C(otr_model_chat(model, messages, 3, "chatml", tokens, 256, &count, &error) == OTR_OK);
  CHECK_C(count > 16);
  for (i = 0; i < count; ++i) CHECK_C(tokens[i] != 257); /* a user cannot write a special token */
  CHECK_C(otr_model_chat(model, messages, 3, "chatml", tokens, count - 1, &count, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_chat(model, messages, 3, NULL, NULL, 0, &count, &error) == OTR_UNSUPPORTED); /* the file brings no template */
  CHECK_C(otr_model_chat(model, messages, 3, "no-such", NULL, 0, &count, &error) == OTR_UNSUPPORTED);
  CHECK_C(strstr(error.message, "chatml") != NULL);
  CHECK_C(otr_model_chat(model, NULL, 0, "chatml", NULL, 0, &count, &error) == OTR_INVALID_ARGUMENT);
  messages[1].role = "narrator";
  CHECK_C(otr_model_chat(model, messages, 3, "chatml", NULL, 0, &count, &error) == OTR_INVALID_ARGUMENT);
  messages[1].role = NULL;
  CHECK_C(otr_model_chat(model, messages, 3, "chatml", NULL, 0, &count, &error) == OTR_INVALID_ARGUMENT);
  otr_model_close(&model);
}

static int32_t count_calls(void* user, double share) {
  int* calls = user;
  CHECK_C(share >= 0 && share <= 1);
  return ++*calls == 3; /* the third time, stop */
}

static void generate_some(const char* path, int32_t tokens[8]) {
  const int32_t prompt[] = {256, 72, 105};
  otr_generate_options options;
  size_t count = 0;
  stack s;
  if (!stack_open_path(&s, path, 1, 64)) return;
  otr_generate_options_init(&options, sizeof options);
  options.max_tokens = 8;
  options.ignore_eos = 1;
  CHECK_C(otr_session_generate(s.session, prompt, 3, &options, NULL, &s.error) == OTR_OK);
  CHECK_C(otr_session_generated_tokens(s.session, tokens, 8, &count, &s.error) == OTR_OK && count == 8);
  stack_close(&s);
}

/* What compressing tells of on its way. */
typedef struct heard {
  int resumed, matrices, corrected;
  uint64_t backbone_bytes, branch_bytes, weights;
  double kl;
} heard;

static void hear_resumption(void* user, int32_t is_surveying, uint32_t layers_done, uint32_t layers) {
  ++((heard*)user)->resumed;
  CHECK_C(is_surveying == 0 && layers_done == 0 && layers == 3);
}

static void hear_matrix(void* user, const otr_compressed_matrix* matrix) {
  heard* all = user;
  CHECK_C(matrix->struct_size == sizeof *matrix && strncmp(matrix->name, "blk.", 4) == 0 && strlen(matrix->kind) > 0);
  CHECK_C(matrix->bits == 3 && matrix->experts == 1 && matrix->layer == (uint32_t)(all->matrices / 7) && matrix->reserved == 0);
  CHECK_C(matrix->loss > 0 && matrix->loss_left <= matrix->loss && (matrix->rank > 0) == (matrix->branch_bytes > 0) && matrix->share == 0);
  ++all->matrices;
  all->corrected += matrix->rank > 0;
  all->weights += matrix->rows * matrix->columns;
  all->backbone_bytes += matrix->backbone_bytes;
  all->branch_bytes += matrix->branch_bytes;
  all->kl += matrix->kl;
}

static void check_training(const otr_compress_report* report, int32_t scope) {
  CHECK_C(report->polish_scope == scope && report->polish_bytes > 0);
  CHECK_C(report->polish_kl_before > 0 && report->polish_kl_after > 0);
  CHECK_C(report->is_polish_kept == (report->polish_kl_after < report->polish_kl_before));
}

void a_model_is_compressed(void) {
  otr_error error = {sizeof error};
  otr_compress_report report = {sizeof report}, older;
  otr_compress_options options;
  otr_model *model = NULL, *small = NULL;
  int32_t tokens[96];
  heard all = {0};
  int calls = 0, i;
  char path[512], report_file[512];
  FILE* file;
  snprintf(path, sizeof path, "%s", scratch_path("small.gguf"));
  for (i = 0; i < 96; ++i) tokens[i] = (i * i * 31 + i * 7) % 200;
  NEED_C(otr_model_open(dense_model_path(), NULL, &model, &error) == OTR_OK);
  otr_compress_options_init(&options, sizeof options);
  CHECK_C(options.bits == 4 && options.chunk_tokens == 512 && options.most_chunks == 32 && options.threads == 0 && options.reserved == 0 &&
          options.resume == 0);
  CHECK_C(options.levels == OTR_LEVELS_UNIFORM && options.group_weights == 64);
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT); /* less than a chunk */
  options.chunk_tokens = 32;
  options.bits = 5;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.bits = 3;
  options.group_weights = 96;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.group_weights = 64;
  options.levels = 2;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.levels = OTR_LEVELS_CODEBOOK;
  options.reserved = 1;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.reserved = 0;
  options.progress = count_calls;
  options.user = &calls;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_CANCELLED && calls == 3);
  file = fopen(path, "rb");
  CHECK_C(file == NULL);
  if (file != NULL) fclose(file);
  options.resume = 2;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.resume = 1;
  calls = 0;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_CANCELLED && calls == 3);
  options.progress = NULL;
  options.user = &all;
  options.on_resume = hear_resumption;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.resumed_windows == 2 && all.resumed == 1);
  options.resume = 0;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.resumed_windows == 0);
  CHECK_C(report.calibration_tokens == 96 && report.backbone_bytes * 16 == report.backbone_weights * 7);
  CHECK_C(report.branch_bytes == 0 && report.branch_read_bytes == 0);
  options.host_bytes = 1;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_BUDGET && error.given_bytes == 1 &&
          error.needed_bytes > 1);
  options.host_bytes = error.needed_bytes;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.host_peak_bytes <= options.host_bytes);
  CHECK_C(report.polish_scope == OTR_POLISH_AUTO && report.is_polish_kept == 0 && report.polish_kl_before == 0 && report.polish_bytes == 0);
  options.host_bytes = 0;
  options.allocation = 3;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.allocation = OTR_BRANCHES_MEASURED;
  options.form = 3;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.form = OTR_BRANCHES_LOW_RANK;
  options.max_slowdown = 50;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT); /* of which machine */
  options.profile = some_profile();
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.branch_read_bytes > 0);
  options.max_slowdown = 0;
  options.branch_bytes = 20000;
  options.on_matrix = hear_matrix;
  options.polish_steps = 2;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.branch_bytes > 0 && report.branch_bytes <= 20000 && report.branch_read_bytes == report.branch_bytes);
  CHECK_C(all.resumed == 1 && all.matrices == 21 && all.corrected > 0 && all.kl > 0 && report.survey_kl > 0 &&
          report.feedback_columns == 0);
  CHECK_C(all.weights == report.backbone_weights && report.used_weights == report.backbone_weights &&
          all.backbone_bytes == report.backbone_bytes && all.branch_bytes == report.branch_bytes);
  CHECK_C(report.host_planned_bytes >= report.host_peak_bytes);
  options.on_matrix = NULL;
  check_training(&report, OTR_POLISH_END_TO_END);
  options.polish_scope = OTR_POLISH_BLOCK;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  check_training(&report, OTR_POLISH_BLOCK);
  options.host_bytes = 1000;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_BUDGET);
  options.host_bytes = 0;
  options.polish_scope = 3;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.polish_scope = OTR_POLISH_AUTO;
  options.polish_target = OTR_POLISH_BOTH;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  check_training(&report, OTR_POLISH_END_TO_END);
  older = report;
  older.struct_size = offsetof(otr_compress_report, polish_kl_before);
  older.polish_bytes = 7;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &older, &error) == OTR_OK);
  CHECK_C(older.host_peak_bytes > 0 && older.polish_bytes == 7); /* of an older program nothing is written beyond its struct */
  options.polish_target = 3;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.polish_target = OTR_POLISH_BRANCHES;
  options.feedback_columns = 65;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.feedback_columns = 64;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_OK);
  options.feedback_columns = 0;
  options.branch_bytes = 0;
  options.form = OTR_BRANCHES_SPARSE;
  options.branch_read_bytes = 3000;
  options.report_file = path;
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  snprintf(report_file, sizeof report_file, "%s", scratch_path("report.html"));
  options.report_file = report_file;
  NEED_C(otr_model_compress(model, tokens, 96, path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.branch_read_bytes <= 3000 && report.branch_bytes > report.branch_read_bytes);
  file = fopen(report_file, "rb");
  NEED_C(file != NULL);
  CHECK_C(fgetc(file) == '<' && fgetc(file) == '!');
  fclose(file);
  NEED_C(otr_model_open(path, NULL, &small, &error) == OTR_OK);
  otr_model_close(&small);
  otr_model_close(&model);
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK); /* rows of 160 */
  CHECK_C(otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_UNSUPPORTED);
  otr_model_close(&model);
}

static int is_there(const char* path) {
  FILE* const file = fopen(path, "rb");
  if (file != NULL) fclose(file);
  return file != NULL;
}

void a_model_is_exported(void) {
  otr_error error = {sizeof error};
  otr_export_report report = {sizeof report};
  otr_compress_options compress_options;
  otr_export_options options;
  otr_model_info info = {sizeof info};
  otr_model *model = NULL, *small = NULL, *backbone = NULL;
  int32_t tokens[96];
  int calls = 0, i;
  char small_path[512], backbone_path[512], adapter_path[512];
  snprintf(small_path, sizeof small_path, "%s", scratch_path("to-export.gguf"));
  snprintf(backbone_path, sizeof backbone_path, "%s", scratch_path("backbone.gguf"));
  snprintf(adapter_path, sizeof adapter_path, "%s", scratch_path("adapter.gguf"));
  for (i = 0; i < 96; ++i) tokens[i] = (i * i * 31 + i * 7) % 200;
  NEED_C(otr_model_open(dense_model_path(), NULL, &model, &error) == OTR_OK);
  CHECK_C(otr_model_export(model, backbone_path, NULL, NULL, &error) == OTR_INVALID_ARGUMENT); /* not compressed */
  otr_compress_options_init(&compress_options, sizeof compress_options);
  compress_options.bits = 2;
  compress_options.form = OTR_BRANCHES_LOW_RANK;
  compress_options.chunk_tokens = 32;
  compress_options.branch_bytes = 20000;
  NEED_C(otr_model_compress(model, tokens, 96, small_path, &compress_options, NULL, &error) == OTR_OK);
  NEED_C(otr_model_open(small_path, NULL, &small, &error) == OTR_OK);

  otr_export_options_init(&options, sizeof options);
  CHECK_C(options.adapter_path == NULL && options.progress == NULL && options.cancel == NULL && options.reserved == 0);
  options.adapter_path = backbone_path;
  CHECK_C(otr_model_export(small, backbone_path, &options, NULL, &error) == OTR_INVALID_ARGUMENT); /* one file for both */
  options.adapter_path = adapter_path;
  options.reserved = 1;
  CHECK_C(otr_model_export(small, backbone_path, &options, NULL, &error) == OTR_INVALID_ARGUMENT);
  options.reserved = 0;
  options.progress = count_calls;
  options.user = &calls;
  CHECK_C(otr_model_export(small, backbone_path, &options, NULL, &error) == OTR_CANCELLED && calls == 3);
  CHECK_C(!is_there(backbone_path) && !is_there(adapter_path));
  options.progress = NULL;
  NEED_C(otr_model_export(small, backbone_path, &options, &report, &error) == OTR_OK);
  CHECK_C(report.branches > 0 && report.recoded_matrices > 0 && report.adapter_bytes > 0 && report.adapter_error > 0 &&
          report.adapter_error < 0.001);
  CHECK_C(is_there(backbone_path) && is_there(adapter_path));
  NEED_C(otr_model_open(backbone_path, NULL, &backbone, &error) == OTR_OK);
  CHECK_C(otr_model_get_info(backbone, &info, &error) == OTR_OK && info.can_run == 1 && info.bytes == report.backbone_bytes);
  otr_model_close(&backbone);
  NEED_C(otr_model_export(small, backbone_path, NULL, &report, &error) == OTR_OK);
  CHECK_C(report.branches > 0 && report.adapter_bytes == 0);
  otr_model_close(&small);
  otr_model_close(&model);
}

void a_model_is_packed(void) {
  otr_error error = {sizeof error};
  otr_model_info info = {sizeof info};
  otr_pack_options options;
  otr_cancel* cancel = NULL;
  otr_model *model = NULL, *packed = NULL;
  int32_t before[8] = {0}, after[8] = {1};
  int calls = 0;
  char path[512];
  FILE* file;
  snprintf(path, sizeof path, "%s", scratch_path("packed.gguf"));
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  CHECK_C(otr_model_get_info(model, &info, &error) == OTR_OK && info.is_packed == 0);

  otr_pack_options_init(&options, sizeof options);
  CHECK_C(options.progress == NULL && options.cancel == NULL && options.reserved == 0);
  options.progress = count_calls;
  options.user = &calls;
  CHECK_C(otr_model_pack(model, path, &options, &error) == OTR_CANCELLED && calls == 3);
  NEED_C(otr_cancel_create(&cancel, &error) == OTR_OK);
  otr_cancel_trigger(cancel);
  options.progress = NULL;
  options.cancel = cancel;
  CHECK_C(otr_model_pack(model, path, &options, &error) == OTR_CANCELLED);
  otr_cancel_close(&cancel);
  file = fopen(path, "rb");
  CHECK_C(file == NULL);
  if (file != NULL) fclose(file);
  CHECK_C(otr_model_pack(model, tiny_model_path(), NULL, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(strcmp(error.file, tiny_model_path()) == 0);
  CHECK_C(otr_model_pack(model, "/no/such/folder/packed.gguf", NULL, &error) == OTR_IO);
  options.cancel = NULL;
  options.reserved = 1;
  CHECK_C(otr_model_pack(model, path, &options, &error) == OTR_INVALID_ARGUMENT);

  NEED_C(otr_model_pack(model, path, NULL, &error) == OTR_OK);
  NEED_C(otr_model_open(path, NULL, &packed, &error) == OTR_OK);
  CHECK_C(otr_model_get_info(packed, &info, &error) == OTR_OK && info.is_packed == 1 && info.can_run == 1);
  otr_model_close(&packed);
  otr_model_close(&model);
  generate_some(tiny_model_path(), before);
  generate_some(path, after);
  CHECK_C(memcmp(before, after, sizeof before) == 0);
}
