// Comparing: bytes, speed, distance.
#include "src/tool/eval_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/loading.h"
#include "src/tool/sizes.h"

namespace outrigger::tool {
namespace {

constexpr uint32_t kMeasuredTokens = 48;

bool is_of_branch(const MatrixShape& matrix) { return matrix.adds_to_window || matrix.name.ends_with(".branch_a"); }

}  // namespace

void count_bytes(const StepShape& shape, ComparedModel* row) {
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use == MatrixUse::kRowLookup) continue;
    (is_of_branch(matrix) ? row->branch_bytes : row->backbone_bytes) += matrix.packed_bytes;
    row->read_bytes_per_token += matrix.use == MatrixUse::kRouted ? matrix.expert_packed_bytes() * shape.used_experts : matrix.packed_bytes;
  }
  row->branch_bytes += shape.residual_bytes;
  row->read_bytes_per_token += shape.residual_read_bytes_per_token;
}

Result<double> measure_decoding(Session& session, uint32_t context_tokens) {
  std::vector<double> ms;
  for (uint32_t i = 0; i < std::min(kMeasuredTokens, context_tokens); ++i) {
    const Stopwatch watch;
    if (Status status = session.step(static_cast<Token>(i % 7)); !status.is_ok()) return status;
    ms.push_back(watch.ms());
  }
  if (Status status = session.truncate(0); !status.is_ok()) return status;
  std::nth_element(ms.begin(), ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2), ms.end());
  return 1e3 / ms[ms.size() / 2];
}

Json compared_json(const std::vector<ComparedModel>& rows, bool has_reference) {
  Json all = Json::array();
  for (const ComparedModel& row : rows) {
    Json one = figures_json(row.figures, has_reference);
    one["file"] = row.file;
    one["bytes"] = {{"backbone", row.backbone_bytes}, {"branches", row.branch_bytes}, {"read_per_token", row.read_bytes_per_token}, {"host", row.host_bytes}, {"device", row.device_bytes}};
    one["tokens_per_s"] = row.tokens_per_s;
    if (row.recovered) one["recovered"] = {{"value", row.recovered->value}, {"error", row.recovered->error}};
    all.push_back(std::move(one));
  }
  return all;
}

std::string compared_text(const std::vector<ComparedModel>& rows, bool has_reference) {
  size_t widest = 5;
  for (const ComparedModel& row : rows) widest = std::max(widest, row.file.size());
  std::string text = fmt::format("{:<{}}  {:>9}  {:>9}  {:>10}  {:>9}  {:>16}", "model", widest, "backbone", "branches", "read/token", "tokens/s", "perplexity");
  if (has_reference) text += fmt::format("  {:>18}  {:>12}", "KL divergence", "recovered");
  text += '\n';
  for (const ComparedModel& row : rows) {
    const Estimate ppl = perplexity(row.figures.nll), kl = row.figures.kl.estimate();
    text += fmt::format("{:<{}}  {:>9}  {:>9}  {:>10}  {:>9.1f}  {:>16}", row.file, widest, format_size(row.backbone_bytes), format_size(row.branch_bytes),
                        format_size(row.read_bytes_per_token), row.tokens_per_s, fmt::format("{:.2f} +- {:.2f}", ppl.value, ppl.error));
    if (has_reference) text += fmt::format("  {:>18}  {:>12}", fmt::format("{:.4f} +- {:.4f}", kl.value, kl.error), row.recovered ? fmt::format("{:.0f} +- {:.0f} %", 100 * row.recovered->value, 100 * row.recovered->error) : "");
    text += '\n';
  }
  return text;
}

}  // namespace outrigger::tool
