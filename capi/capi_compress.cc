// C API: compressed models, and what other engines get of them.
#include "capi/capi_common.h"

using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

otr_compress_options compress_defaults() {
  const outrigger::CompressOptions own;
  otr_compress_options options = {};
  options.struct_size = sizeof options;
  options.bits = own.bits;
  options.chunk_tokens = own.chunk_tokens;
  options.most_chunks = own.most_chunks;
  options.threads = own.threads;
  options.branch_bytes = own.branch_bytes;
  options.factor_bits = own.factor_bits;
  options.rounds = own.rounds;
  options.mixed_bits = own.mixed_bits;
  options.allocation = static_cast<int32_t>(own.allocation);
  options.scattered_read_cost = own.scattered_read_cost;
  options.levels = static_cast<int32_t>(own.levels);
  options.group_weights = own.group_weights;
  return options;
}

otr_export_options export_defaults() {
  otr_export_options options = {};
  options.struct_size = sizeof options;
  return options;
}

outrigger::CompressOptions compress_options_of(const otr_compress_options& given) {
  outrigger::CompressOptions options;
  options.bits = given.bits;
  options.mixed_bits = given.mixed_bits;
  options.branch_bytes = given.branch_bytes;
  options.allocation = static_cast<outrigger::BranchAllocation>(given.allocation);
  options.factor_bits = given.factor_bits;
  options.method = static_cast<outrigger::BranchMethod>(given.method);
  options.polish_steps = given.polish_steps;
  options.polish_scope = static_cast<outrigger::PolishScope>(given.polish_scope);
  options.polish_target = static_cast<outrigger::PolishTarget>(given.polish_target);
  options.host_bytes = given.host_bytes;
  options.branch_read_bytes = given.branch_read_bytes;
  options.scattered_read_cost = given.scattered_read_cost;
  options.max_slowdown = given.max_slowdown;
  if (given.profile != nullptr) options.machine = given.profile->profile;
  options.form = static_cast<outrigger::BranchForm>(given.form);
  options.levels = static_cast<outrigger::WeightLevels>(given.levels);
  options.group_weights = given.group_weights;
  options.rounds = given.rounds;
  options.feedback_columns = given.feedback_columns;
  options.chunk_tokens = given.chunk_tokens;
  options.most_chunks = given.most_chunks;
  options.threads = given.threads;
  options.resume = given.resume != 0;
  if (given.report_file != nullptr) options.report_file = given.report_file;
  if (given.on_resume != nullptr) {
    options.on_resume = [given](const outrigger::CompressResumption& work) {
      given.on_resume(given.user, work.is_surveying ? 1 : 0, work.layers_done, work.layers);
    };
  }
  options.progress = progress_of(given.progress, given.user);
  options.cancel = token_of(given.cancel);
  return options;
}

otr_compress_report report_of(const outrigger::CompressReport& made) {
  otr_compress_report full = {};
  full.input_bytes = made.input_bytes;
  full.output_bytes = made.output_bytes;
  full.backbone_bytes = made.backbone_bytes;
  full.backbone_weights = made.backbone_weights;
  full.calibration_tokens = made.calibration_tokens;
  full.branch_bytes = made.branch_bytes;
  full.branch_read_bytes = made.branch_read_bytes;
  full.resumed_windows = made.resumed_windows;
  full.host_peak_bytes = made.memory.peak_bytes;
  full.polish_kl_before = made.polish_kl_before;
  full.polish_kl_after = made.polish_kl_after;
  full.polish_scope = static_cast<int32_t>(made.polish_scope);
  full.is_polish_kept = made.is_polish_kept ? 1 : 0;
  full.polish_bytes = made.polish_bytes;
  full.host_planned_bytes = made.memory.planned_bytes;
  full.feedback_columns = made.memory.feedback_columns;
  full.used_weights = made.used_weights;
  full.survey_kl = made.survey.kl;
  return full;
}

void tell_matrix(const outrigger::CompressedMatrixReport& made, const otr_compress_options& options) {
  otr_compressed_matrix matrix = {};
  matrix.struct_size = sizeof matrix;
  matrix.bits = made.bits;
  matrix.name = made.name.c_str();
  matrix.kind = made.kind.c_str();
  matrix.layer = made.layer;
  matrix.experts = made.experts;
  matrix.rows = made.rows;
  matrix.columns = made.columns;
  matrix.rank = made.rank;
  matrix.share = made.share;
  matrix.backbone_bytes = made.backbone_bytes;
  matrix.branch_bytes = made.branch_bytes;
  matrix.branch_read_bytes = made.branch_read_bytes;
  matrix.loss = made.loss;
  matrix.loss_left = made.loss_left;
  matrix.kl = made.kl;
  matrix.restored = made.restored;
  options.on_matrix(options.user, &matrix);
}

}  // namespace

void otr_compress_options_init(otr_compress_options* options, uint32_t struct_size) { init(options, struct_size, compress_defaults()); }

otr_status otr_model_compress(const otr_model* model, const int32_t* calibration, size_t count, const char* path,
                              const otr_compress_options* options, otr_compress_report* report, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(require_array(calibration, count, "calibration"));
    OTR_CAPI_TRY(require(path, "path"));
    if (report != nullptr) OTR_CAPI_TRY(check_info(report, "report"));
    otr_compress_options known = compress_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
    if (known.resume > 1)
      return Status(outrigger::StatusCode::kInvalidArgument, "options: resume is " + std::to_string(known.resume) + ", need 0 or 1");
    OTR_CAPI_ASSIGN(made, outrigger::compress_model(model->model, std::span(calibration, count), path, compress_options_of(known)));
    if (known.on_matrix != nullptr) {
      for (const outrigger::CompressedMatrixReport& matrix : made.matrices) tell_matrix(matrix, known);
    }
    if (report != nullptr) give_info(report_of(made), report);
    return {};
  });
}

void otr_export_options_init(otr_export_options* options, uint32_t struct_size) { init(options, struct_size, export_defaults()); }

otr_status otr_model_export(const otr_model* model, const char* backbone_path, const otr_export_options* options, otr_export_report* report,
                            otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(require(backbone_path, "backbone_path"));
    if (report != nullptr) OTR_CAPI_TRY(check_info(report, "report"));
    otr_export_options known = export_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
    outrigger::ExportOptions own;
    if (known.adapter_path != nullptr) own.adapter_path = known.adapter_path;
    own.progress = progress_of(known.progress, known.user);
    own.cancel = token_of(known.cancel);
    OTR_CAPI_ASSIGN(made, outrigger::export_model(model->model, backbone_path, own));
    if (report == nullptr) return {};
    otr_export_report full = {};
    full.input_bytes = made.input_bytes;
    full.backbone_bytes = made.backbone_bytes;
    full.adapter_bytes = made.adapter_bytes;
    full.recoded_matrices = made.recoded_matrices;
    full.branches = made.branches;
    full.adapter_error = made.adapter_error;
    give_info(full, report);
    return {};
  });
}
