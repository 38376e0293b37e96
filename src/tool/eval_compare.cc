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

std::vector<ComparedFile> files_of(const std::vector<ComparedModel>& rows) {
  std::vector<ComparedFile> files;
  for (const ComparedModel& row : rows) files.push_back(row.file);
  return files;
}

std::string with_error(const Estimate& figure, int digits, const char* unit) {
  return fmt::format("{:.{}f} +- {:.{}f}{}", figure.value, digits, figure.error, digits, unit);
}

Json nearest_json(const std::vector<ComparedFile>& files, BytesOf bytes) {
  const std::vector<Standing> all = standings(files, bytes);
  Json names = Json::array();
  for (size_t i = 0; i < files.size(); ++i) {
    if (!all[i].behind) names.push_back(files[i].name);
  }
  return names;
}

}  // namespace

void count_bytes(const StepShape& shape, ComparedFile* file) {
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use == MatrixUse::kRowLookup) continue;
    (is_of_branch(matrix) ? file->branch_bytes : file->backbone_bytes) += matrix.packed_bytes;
    file->read_bytes_per_token +=
        matrix.use == MatrixUse::kRouted ? matrix.expert_packed_bytes() * shape.used_experts : matrix.packed_bytes;
  }
  file->branch_bytes += shape.residual_bytes;
  file->read_bytes_per_token += shape.residual_read_bytes_per_token;
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
  const std::vector<ComparedFile> files = files_of(rows);
  Json models = Json::array();
  for (const ComparedModel& row : rows) {
    Json one = figures_json(row.figures, has_reference);
    one["file"] = row.file.name;
    one["bytes"] = {{"backbone", row.file.backbone_bytes},
                    {"branches", row.file.branch_bytes},
                    {"read_per_token", row.file.read_bytes_per_token},
                    {"host", row.host_bytes},
                    {"device", row.device_bytes}};
    one["tokens_per_s"] = row.tokens_per_s;
    if (const auto recovered = recovered_by(row.file, files)) {
      one["recovered"] = {{"value", recovered->share.value}, {"error", recovered->share.error}};
      one["recovered_of"] = recovered->of;
    }
    models.push_back(std::move(one));
  }
  Json document = {{"models", models}};
  if (has_reference)
    document["nearest"] = {{"stored", nearest_json(files, stored_bytes)}, {"read_per_token", nearest_json(files, read_bytes)}};
  return document;
}

std::string compared_text(const std::vector<ComparedModel>& rows, bool has_reference) {
  const std::vector<ComparedFile> files = files_of(rows);
  size_t widest = 5;
  for (const ComparedFile& file : files) widest = std::max(widest, file.name.size());
  std::string text = fmt::format("{:<{}}  {:>9}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>16}", "model", widest, "backbone", "branches",
                                 "read/token", "device", "host", "tokens/s", "perplexity");
  if (has_reference) text += fmt::format("  {:>18}  {:>12}", "KL divergence", "recovered");
  text += '\n';
  std::string notes;
  for (const ComparedModel& row : rows) {
    const ComparedFile& file = row.file;
    text += fmt::format("{:<{}}  {:>9}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9.1f}  {:>16}", file.name, widest, format_size(file.backbone_bytes),
                        format_size(file.branch_bytes), format_size(file.read_bytes_per_token), format_size(row.device_bytes),
                        format_size(row.host_bytes), row.tokens_per_s, with_error(perplexity(row.figures.nll), 2, ""));
    if (has_reference) text += fmt::format("  {:>18}", with_error(file.kl.estimate(), 4, ""));
    if (const auto recovered = recovered_by(file, files)) {
      text += fmt::format("  {:>12}", with_error({100 * recovered->share.value, 100 * recovered->share.error}, 0, " %"));
      if (recovered->of != file.name)
        notes += fmt::format("recovered by {}: of the distance of {}, which is nearer than it is without its branches\n", file.name,
                             recovered->of);
    }
    text += '\n';
  }
  return has_reference ? text + notes + verdict_text(files) : text;
}

}  // namespace outrigger::tool
