// What `compress` is asked for: sizes in words become bytes of this model.
#include "src/tool/compress_options.h"

#include <fmt/format.h>
#include <outrigger/sizes.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "src/tool/loading.h"

namespace outrigger::tool {
namespace {

// "3", or "mixed:2.8". Scales take `scale_bits` of each weight.
Status read_bits(const std::string& text, double scale_bits, CompressOptions* options) {
  constexpr std::string_view kMixed = "mixed:";
  if (text == "2" || text == "3" || text == "4") {
    options->bits = text[0] - '0';
    return Status();
  }
  const char* const end = text.data() + text.size();
  if (text.starts_with(kMixed)) {
    const auto [rest, error] = std::from_chars(text.data() + kMixed.size(), end, options->mixed_bits, std::chars_format::fixed);
    if (error == std::errc() && rest == end && options->mixed_bits >= 2 + scale_bits && options->mixed_bits <= 4 + scale_bits)
      return Status();
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("--bits: got \"{}\", need 2, 3, 4, or mixed:{} to mixed:{} stored bits a weight",
                                                          text, 2 + scale_bits, 4 + scale_bits));
}

// Weights of the matrices that can be corrected; of a stack those of so many experts.
double correctable_weights(const StepShape& shape, const CompressCommandOptions& options, uint32_t experts) {
  const bool has_residuals =
      options.form != BranchForm::kLowRank && options.method != BranchMethod::kHcinfer && options.allocation != BranchAllocation::kHcinfer;
  double weights = 0;
  for (const MatrixShape& matrix : shape.matrices) {
    const double each = static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
    if (matrix.use == MatrixUse::kEveryToken) weights += each;
    if (matrix.use == MatrixUse::kRouted && has_residuals) weights += each * std::min(experts, matrix.experts);
  }
  return weights;
}

// A size, bits for each of so many weights ("0.8bpw"), or a share of their bytes ("10%").
Result<uint64_t> read_bytes(const char* name, const std::string& text, double weights, double stored_bits) {
  if (text.ends_with("bpw")) {
    double bits_each = -1;
    const char* const end = text.data() + text.size() - 3;
    const auto [rest, error] = std::from_chars(text.data(), end, bits_each, std::chars_format::fixed);
    if (error != std::errc() || rest != end || !(bits_each >= 0 && bits_each <= 32)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: got \"{}\", need 0 to 32 bits for each weight, such as 0.4bpw", name, text));
    }
    return static_cast<uint64_t>(weights * bits_each / 8);
  }
  auto size = parse_size(text);
  if (!size.is_ok())
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{}: got \"{}\", need a size (8MiB), bits for each weight (0.4bpw), a share of the backbone (10%) or 0", name, text));
  return size->share > 0 ? static_cast<uint64_t>(weights * stored_bits / 8 * size->share) : size->bytes;
}

bool is_mixture(const StepShape& shape) {
  return std::any_of(shape.matrices.begin(), shape.matrices.end(),
                     [](const MatrixShape& matrix) { return matrix.use == MatrixUse::kRouted; });
}

constexpr double kMostWholeBytes = 4e9;  // of memory that training takes where nobody says how much there is: most machines can spare it

// What training the whole model has of its matrices: float32 twice.
double whole_training_bytes(const StepShape& shape) {
  double weights = 0;
  for (const MatrixShape& matrix : shape.matrices) weights += static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
  return 8 * weights;
}

// "auto": 50 steps; branches of mixtures cannot be trained.
Status read_polish(const std::string& text, const StepShape& shape, CompressOptions* options) {
  constexpr uint32_t kSteps = 50;
  if (text == "auto") {
    // Who says that the backbone is to be trained asks for training: the library then says that it cannot.
    options->polish_steps = is_mixture(shape) && options->polish_target == PolishTarget::kBranches ? 0 : kSteps;
    return Status();
  }
  if (text == "off") return Status();
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), options->polish_steps);
  if (error == std::errc() && rest == text.data() + text.size()) return Status();
  return Status(StatusCode::kInvalidArgument, fmt::format("--polish: got \"{}\", need auto, off or a number of steps", text));
}

PolishScope choose_polish_scope(const CompressCommandOptions& options, const StepShape& shape) {
  const bool is_large =
      options.polish_scope == PolishScope::kAuto && !options.common.host_budget && whole_training_bytes(shape) > kMostWholeBytes;
  return is_large ? PolishScope::kBlock : options.polish_scope;
}

// With two and three bits the backbone's own scales restore much for no byte more, with four nothing; beside branches they help with two,
// and with three they lost what the branches' own steps had gained. Trained layer by layer they take long and bring half. What has
// residuals keeps its scales, so that little would be left to train; who states a budget of memory may have none for it.
PolishTarget choose_polish_target(const CompressCommandOptions& options, const StepShape& shape, double code_bits,
                                  const CompressOptions& result) {
  const double most_bits = result.branch_bytes > 0 ? 2.5 : 3.5;
  if (options.polish_target != PolishTargetChoice::kAuto) return static_cast<PolishTarget>(options.polish_target);
  const bool has_residuals = result.branch_read_bytes > 0 || options.max_slowdown > 0 || options.form == BranchForm::kSparse,
             sees_all =
                 options.polish_scope != PolishScope::kBlock && result.host_bytes == 0 && whole_training_bytes(shape) <= kMostWholeBytes,
             can_train = !is_mixture(shape) && options.method == BranchMethod::kWeighed;
  return code_bits <= most_bits && !has_residuals && sees_all && can_train ? PolishTarget::kBoth : PolishTarget::kBranches;
}

Status read_branches(const CompressCommandOptions& options, const Model& model, double stored_bits, CompressOptions* result) {
  auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  const double stored = correctable_weights(shape.value(), options, UINT32_MAX),
               used = correctable_weights(shape.value(), options, shape->used_experts);
  const auto budget = read_bytes("--branch-budget", options.branch_budget, stored, stored_bits),
             reads = read_bytes("--branch-reads", options.branch_reads, used, stored_bits);
  if (!budget.is_ok()) return budget.status();
  if (!reads.is_ok()) return reads.status();
  result->branch_bytes = budget.value();
  result->branch_read_bytes = reads.value();
  result->form = options.form;
  return Status();
}

}  // namespace

Result<CompressOptions> read_compress_options(const CompressCommandOptions& options, const Model& model) {
  CompressOptions result;
  const double scale_bits = 32.0 / options.group_weights;  // a float16 scale and a float16 minimum
  if (options.common.host_budget) result.host_bytes = host_budget_bytes(options.common);
  if (Status status = read_bits(options.bits, scale_bits, &result); !status.is_ok()) return status;
  result.levels = options.levels;
  result.group_weights = options.group_weights;
  const double stored_bits = result.mixed_bits > 0 ? result.mixed_bits : result.bits + scale_bits;
  if (Status status = read_branches(options, model, stored_bits, &result); !status.is_ok()) return status;
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  result.polish_scope = choose_polish_scope(options, shape.value());
  result.polish_target = choose_polish_target(options, shape.value(), stored_bits - scale_bits, result);
  if (Status status = read_polish(options.polish, shape.value(), &result); !status.is_ok()) return status;
  if (options.max_slowdown > 0) {
    auto machine = plan_profile(model, options.common, nullptr);
    if (!machine.is_ok()) return machine.status();
    result.max_slowdown = options.max_slowdown;
    result.machine = std::move(machine).value();
  }
  result.allocation = options.allocation;
  result.method = options.method;
  result.factor_bits = options.factor_bits;
  result.chunk_tokens = options.chunk_tokens;
  result.most_chunks = options.chunks;
  result.threads = options.common.threads;
  result.report_file = options.report_file;
  result.resume = !options.no_resume;
  return result;
}

}  // namespace outrigger::tool
