// compress_model: from options and a text to a file.
#include <outrigger/compress.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/compress/compress_budget.h"
#include "src/compress/compress_page.h"
#include "src/compress/compressed_file.h"
#include "src/compress/compressible.h"
#include "src/compress/compressor.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/planning.h"
#include "src/compress/polish_made.h"
#include "src/compress/saved_work.h"
#include "src/compress/slowdown_budget.h"
#include "src/device/cpu_backend.h"
#include "src/memory/leased_vector.h"
#include "src/memory/residency.h"
#include "src/model/model_copy.h"
#include "src/plan/correction_cost.h"

namespace outrigger {
namespace {

// Of the whole time, with two rounds and 50 steps.
constexpr double kShareOfSurvey = 0.3;
constexpr double kShareOfPolish = 0.35;

// Whole chunks, spread evenly.
Result<LeasedVector<Token>> choose_chunks(std::span<const Token> tokens, uint64_t vocabulary, const CompressOptions& options) {
  const auto is_known = [vocabulary](Token token) { return token >= 0 && static_cast<uint64_t>(token) < vocabulary; };
  if (!std::all_of(tokens.begin(), tokens.end(), is_known)) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("the calibration has tokens that are not among the {} of the vocabulary", vocabulary));
  }
  const size_t given = tokens.size() / options.chunk_tokens, used = std::min<size_t>(given, options.most_chunks);
  if (used == 0) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("the calibration has {} tokens, need at least {}; give a longer text", tokens.size(), options.chunk_tokens));
  }
  LeasedVector<Token> chosen(MemoryUse::kCalibration);
  chosen.reserve(used * options.chunk_tokens);
  for (size_t i = 0; i < used; ++i) {
    const auto begin = tokens.begin() + static_cast<ptrdiff_t>(i * given / used * options.chunk_tokens);
    chosen.insert(chosen.end(), begin, begin + options.chunk_tokens);
  }
  return chosen;
}

Status report(const CompressOptions& options, double share) {
  try {
    if (options.cancel.is_cancelled() || (options.progress && !options.progress(share)))
      return Status(StatusCode::kCancelled, "compressing was cancelled");
  } catch (...) {
    return Status(StatusCode::kInternal, "the progress callback threw");
  }
  return {};
}

std::vector<CompressedMatrixReport> matrix_reports(const ModelLayout& layout, const std::vector<MatrixPlan>& plans,
                                                   const std::vector<CompressedMatrix>& made) {
  std::vector<CompressedMatrixReport> reports;
  const std::vector<uint32_t> matrices = matrices_of_layers(layout);
  const std::vector<std::string> kinds = kinds_of(layout);
  for (size_t i = 0; i < matrices.size(); ++i) {
    const MatrixPlan& plan = plans[matrices[i]];
    const WeightSource& weight = layout.weights[matrices[i]];
    const CompressedMatrix& one = made[matrices[i]];
    CompressedMatrixReport report{layout.shape.matrices[matrices[i]].name,
                                  kinds[i % kinds.size()],
                                  static_cast<uint32_t>(i / kinds.size()),
                                  weight.rows,
                                  weight.columns,
                                  plan.bits,
                                  plan.rank,
                                  plan.share};
    report.experts = weight.experts;
    report.backbone_bytes = weight.experts * weight.rows * *row_bytes(plan.type(), weight.columns);
    report.branch_bytes = one.branch.a.size() + one.branch.b.size() + one.residual.columns.bytes.size();
    report.branch_read_bytes = one.branch.a.size() + one.branch.b.size() +
                               static_cast<uint64_t>(plan.share * static_cast<double>(reached_residual_bytes(layout, matrices[i])));
    report.loss = one.loss;
    report.loss_left = one.loss_left;
    report.kl = plan.kl;
    report.restored = plan.restored;
    reports.push_back(std::move(report));
  }
  return reports;
}

Result<AtomicFile> page_file(const std::string& path, const std::string& html) {
  OTR_ASSIGN(AtomicFile page, AtomicFile::create(path, 0666));
  OTR_TRY(page.write(std::as_bytes(std::span(html))));
  return page;
}

// The model, and then the page about it, which is complete before the model appears.
Status commit(const CompressOptions& options, const std::string& html, CompressedFile* file) {
  if (options.report_file.empty()) return file->commit();
  OTR_ASSIGN(AtomicFile page, page_file(options.report_file, html));
  OTR_TRY(file->commit());
  return page.commit();
}

// What would make the files impossible is said before minutes of work, not after them.
Status check_files(const Model::Impl& model, const std::string& path, const CompressOptions& options) {
  OTR_TRY(check_output_path(model, path));
  if (options.resume) OTR_TRY(check_output_path(model, SavedWork::file_beside(path)));
  OTR_TRY(AtomicFile::create(path, 0666).status());
  const std::string& report = options.report_file;
  if (report.empty()) return {};
  OTR_TRY(check_output_path(model, report));
  if (report == path || report == SavedWork::file_beside(path))
    return Status(StatusCode::kInvalidArgument, "the report and the model are to have the same name").in_file(report);
  return AtomicFile::create(report, 0666).status();
}

// `saved`: null where nothing is kept.
Result<CompressReport> compress_chunks(const Model::Impl& model, std::span<const Token> tokens, const std::string& path,
                                       const CompressOptions& options, SavedWork* saved, const MemoryLedger& ledger) {
  CompressReport result;
  result.input_bytes = model.info.bytes;
  result.calibration_tokens = tokens.size();
  const double planning_share = needs_survey(options) ? kShareOfSurvey : 0;
  OTR_ASSIGN(ModelPlan plan,
             plan_matrices(model, tokens, options, saved, [&](double share) { return report(options, planning_share * share); }));
  const std::vector<MatrixPlan>& plans = plan.matrices;
  result.survey = std::move(plan.survey);
  OTR_ASSIGN(CompressedFile file, CompressedFile::create(model, path, plans, options.factor_bits));
  result.output_bytes = file.bytes();
  if (saved != nullptr && !file.temporary().empty()) saved->name_leftover(file.temporary());
  std::vector<CompressedMatrix> branches(plans.size());  // written last
  const bool has_factors = std::any_of(plans.begin(), plans.end(), [](const MatrixPlan& one) { return one.rank > 0; });
  const bool polishes = trains_backbone(options) || (has_factors && trains_branches(options));
  PolishPlan polish;
  if (polishes) {
    OTR_ASSIGN(polish, plan_polish(model, tokens, options, plans));
  }
  const CompressNeed need = need_of_making(model, tokens, options, plans, polish.bytes);
  OTR_TRY(check_need(need, options));
  const double polish_share = polishes ? kShareOfPolish : 0, compressor_share = 1 - planning_share - polish_share;
  OTR_ASSIGN(std::unique_ptr<Compressor> compressor, Compressor::create(model, tokens, options));
  if (saved != nullptr) {
    OTR_TRY(saved->begin(SavedWork::Pass::kFinal, plans));
    compressor->keep_in(saved);
  }
  const auto sink = [&](uint32_t matrix, CompressedMatrix made) {
    result.backbone_bytes += made.backbone.bytes.size();
    const uint64_t weights = made.backbone.rows * made.backbone.columns, experts = model.layout->weights[matrix].experts;
    result.backbone_weights += weights;
    result.used_weights += is_stack(*model.layout, matrix) ? weights / experts * model.layout->config.used_experts : weights;
    OTR_TRY(file.write_backbone(matrix, made.backbone));
    made.backbone.bytes = LeasedVector<std::byte>();  // "= {}" would keep the memory
    branches[matrix] = std::move(made);
    return Status();
  };
  OTR_TRY(compressor->run(plans, sink,
                          [&](uint32_t done, uint32_t all) { return report(options, planning_share + compressor_share * done / all); }));
  compressor.reset();
  if (polishes) {
    const auto watch = [&](uint32_t done, uint32_t all) { return report(options, 1 - polish_share + polish_share * done / all); };
    OTR_TRY(polish_made(model, tokens, options, plans, polish, watch, &file, &branches, &result));
  }
  double residual_reads = 0;
  for (const uint32_t matrix : matrices_of_layers(*model.layout)) {
    const LowRankBranch& branch = branches[matrix].branch;
    const SelectiveResidual& residual = branches[matrix].residual;
    if (branch.rank > 0) OTR_TRY(file.write_branch(branch));
    result.branch_read_bytes += branch.a.size() + branch.b.size();
    result.branch_bytes += branch.a.size() + branch.b.size() + residual.columns.bytes.size();
    if (residual.share > 0) OTR_TRY(file.write_residual(residual));
    residual_reads += residual.share * static_cast<double>(reached_residual_bytes(*model.layout, matrix));
  }
  result.branch_read_bytes += static_cast<uint64_t>(residual_reads);
  result.matrices = matrix_reports(*model.layout, plans, branches);
  if (saved != nullptr) result.resumed_windows = saved->resumed_windows();
  result.memory = memory_of(ledger, std::max(need.bytes, plan.needed_bytes), options);
  OTR_TRY(model.file.source().check_unchanged());
  const std::string html = options.report_file.empty() ? std::string() : compress_page(result, options, model.info, path, nullptr);
  OTR_TRY(commit(options, html, &file));
  return result;
}

// Whether going on can come further than the call that failed with it.
bool may_go_away(StatusCode code) {
  return code == StatusCode::kCancelled || code == StatusCode::kBudget || code == StatusCode::kIo || code == StatusCode::kOutOfMemory ||
         code == StatusCode::kInternal;
}

// With bytes in the place of time.
Result<CompressOptions> in_bytes(const Model::Impl& model, CompressOptions options) {
  if (options.max_slowdown == 0) return options;
  OTR_ASSIGN(options.branch_read_bytes,
             bytes_within_slowdown(*model.layout, *own_type(base_bits(options), form_of(options)), *options.machine, options.max_slowdown));
  options.scattered_read_cost = kScatteredReadCost;
  return options;
}

// Within the thread's residency, of which `ledger` is.
Result<CompressReport> compress_leased(const Model::Impl& model, std::span<const Token> calibration, const std::string& path,
                                       const CompressOptions& given, const MemoryLedger& ledger) try {
  OTR_ASSIGN(const LeasedVector<Token> tokens, choose_chunks(calibration, model.layout->vocabulary, given));
  OTR_ASSIGN(const CompressOptions options, with_room_for_feedback(model, tokens, given));
  std::unique_ptr<SavedWork> saved;
  if (options.resume) {
    OTR_ASSIGN(saved, SavedWork::open(model, tokens, options, path));
  }
  Result<CompressReport> result = compress_chunks(model, tokens, path, options, saved.get(), ledger);
  const bool is_over = result.is_ok() || !may_go_away(result.status().code());
  if (saved && (is_over || saved->is_empty())) saved->remove();
  return result;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

// What is wrong whatever the calibration is.
Result<CompressOptions> checked_options(const Model::Impl& model, const std::string& path, const CompressOptions& given) {
  OTR_TRY(given.validate());
  OTR_TRY(check_compressible(model, given));
  OTR_ASSIGN(CompressOptions options, in_bytes(model, given));
  OTR_TRY(check_files(model, path, options));
  OTR_TRY(model.file.source().check_unchanged());
  return options;
}

Result<CompressReport> compress(const Model::Impl& model, std::span<const Token> calibration, const std::string& path,
                                const CompressOptions& given) {
  OTR_ASSIGN(const CompressOptions options, checked_options(model, path, given));
  CpuBackend backend;
  OTR_ASSIGN(const std::unique_ptr<TensorResidency> memory, TensorResidency::create_empty(backend, options.host_bytes));
  const LeaseScope scope(*memory, MemoryUse::kMatrices);
  Result<CompressReport> result = compress_leased(model, calibration, path, options, memory->ledger());
  // A vector that is refused its memory says no more than that.
  const Status refusal = memory->ledger().last_refusal();
  if (!result.is_ok() && result.status().code() == StatusCode::kOutOfMemory && !refusal.is_ok()) return refusal;
  return result;
}

}  // namespace

Result<CompressReport> compress_model(const Model& model, std::span<const Token> calibration, const std::string& path,
                                      const CompressOptions& options) try {
  return compress(*model.impl(), calibration, path, options);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

Status check_compress(const Model& model, uint64_t calibration_tokens, const std::string& path, const CompressOptions& given) try {
  OTR_ASSIGN(const CompressOptions options, checked_options(*model.impl(), path, given));
  const uint64_t most = uint64_t{options.most_chunks} * options.chunk_tokens;
  // How much memory is needed does not hang on which tokens they are
  const std::vector<Token> stand_in(std::min(calibration_tokens, most));
  OTR_ASSIGN(const LeasedVector<Token> tokens, choose_chunks(stand_in, model.impl()->layout->vocabulary, options));
  return with_room_for_feedback(*model.impl(), tokens, options).status();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status write_compress_page(const Model& model, const std::string& path, const CompressOptions& options, const CompressReport& report,
                           const CompressQuality& quality) try {
  if (options.report_file.empty()) return Status(StatusCode::kInvalidArgument, "report_file is empty, need the page's name");
  OTR_TRY(options.validate());
  OTR_ASSIGN(const CompressOptions used, in_bytes(*model.impl(), options));
  OTR_ASSIGN(AtomicFile page, page_file(options.report_file, compress_page(report, used, model.impl()->info, path, &quality)));
  return page.commit();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
