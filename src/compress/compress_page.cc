// compress_page: figures, drawings, totals, and every matrix.
#include "src/compress/compress_page.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/compress/compress_drawings.h"
#include "src/page/html_page.h"

namespace outrigger {
namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;

std::string number(double value) { return value == 0 ? "" : formatted("{:.0f}", value); }

class ReportPage {
 public:
  ReportPage(const CompressReport& report, const CompressOptions& options, const ModelInfo& model, const std::string& output,
             const CompressQuality* quality)
      : report_(report),
        options_(options),
        quality_(quality),
        page_(headline(report, model), formatted("{}, from {}", output, model.file), heat_style()) {}

  std::string make() {
    add_figures();
    add_survey();
    add_choices();
    add_losses();
    if (!report_.polish_losses.empty()) page_.drawing(draw_training(report_));
    if (!report_.polish_layers.empty()) page_.drawing(draw_layer_training(report_));
    add_table("Totals", totals());
    add_table("Options", options());
    add_matrices();
    return page_.close();
  }

 private:
  static std::string headline(const CompressReport& report, const ModelInfo& model) {
    const std::string corrections = report.branch_bytes > 0 ? formatted(" with {}", corrections_of(report)) : "";
    const double bits =
        report.backbone_weights > 0 ? 8.0 * static_cast<double>(report.backbone_bytes) / static_cast<double>(report.backbone_weights) : 0;
    return formatted("{} in {:.2f} bits a weight{}", model.name.empty() ? "A model" : model.name, bits, corrections);
  }

  static std::string bits_each(uint64_t bytes, uint64_t weights, const char* what) {
    return weights == 0 ? ""
                        : formatted("{:.2f} bits for each {}", 8.0 * static_cast<double>(bytes) / static_cast<double>(weights), what);
  }
  std::string bits_each(uint64_t bytes) const { return bits_each(bytes, report_.backbone_weights, "weight"); }
  std::string bits_read() const {
    return bits_each(report_.branch_read_bytes, report_.used_weights,
                     report_.used_weights < report_.backbone_weights ? "weight that it uses" : "weight");
  }

  void add_figures() {
    page_.begin_figures();
    page_.figure(format_bytes(report_.output_bytes), formatted("from {}", format_bytes(report_.input_bytes)));
    page_.figure(format_bytes(report_.backbone_bytes), formatted("of layers, {}", bits_each(report_.backbone_bytes)));
    if (report_.branch_bytes > 0)
      page_.figure(format_bytes(report_.branch_bytes), formatted("of {}, {}", corrections(), bits_each(report_.branch_bytes)));
    if (has_residuals(report_))
      page_.figure(format_bytes(report_.branch_read_bytes), formatted("of them read by a token, {}", bits_read()));
    if (quality_ != nullptr) add_quality();
    if (is_trained())
      page_.figure(formatted("{:.3f} nats", report_.is_polish_kept ? report_.polish_kl_after : report_.polish_kl_before),
                   formatted("from the model on held-out pieces; {:.3f} before training", report_.polish_kl_before));
    page_.end_figures();
  }

  void add_quality() {
    if (!quality_->compensated)
      return page_.figure(formatted("{:.3f} nats", quality_->backbone.value), "from the model on text that was not used");
    page_.figure(formatted("{:.3f} nats", quality_->compensated->value),
                 formatted("from the model on text that was not used; {:.3f} without {}", quality_->backbone.value, corrections()));
  }

  bool is_trained() const { return report_.polish_scope != PolishScope::kAuto; }
  static bool has_ranks(const CompressReport& report) {
    return std::any_of(report.matrices.begin(), report.matrices.end(),
                       [](const CompressedMatrixReport& matrix) { return matrix.rank > 0; });
  }
  static bool has_residuals(const CompressReport& report) {
    return std::any_of(report.matrices.begin(), report.matrices.end(),
                       [](const CompressedMatrixReport& matrix) { return matrix.share > 0; });
  }
  static std::string corrections_of(const CompressReport& report) {
    return !has_residuals(report) ? "low-rank branches" : has_ranks(report) ? "low-rank branches and residuals" : "residuals";
  }
  std::string corrections() const { return corrections_of(report_); }
  bool has_corrections() const {
    return std::any_of(report_.matrices.begin(), report_.matrices.end(),
                       [](const CompressedMatrixReport& matrix) { return matrix.rank > 0 || matrix.share > 0; });
  }

  void add_survey() {
    page_.add("<h2>What was measured first</h2>\n");
    if (report_.survey.kl == 0) {
      page_.add(
          "<p>Nothing: with these options no choice depends on measurements{}. So there is nothing to draw of how much each kind of matrix "
          "and each layer matters.</p>\n",
          has_corrections() ? ", and every matrix was given the same" : "");
      return;
    }
    page_.add(
        "<p>With every matrix in few bits, and nothing to correct it, the model was {:.3f} nats a token away from itself on two pieces of "
        "the calibration. How much nearer it comes with some of its matrices as they were, nats a token:</p>\n",
        report_.survey.kl);
    page_.drawing(draw_distances(report_));
  }

  void add_choices() {
    const bool is_mixed = options_.mixed_bits > 0;
    if (!is_mixed && !has_corrections()) return;
    page_.add("<h2>What was chosen</h2>\n");
    if (is_mixed)
      page_.drawing(draw_heat(report_, {"Bits", "of a weight's code", "host", [](const auto& matrix) { return matrix.bits; }, number, 4}));
    if (has_residuals(report_)) {
      page_.drawing(draw_heat(report_, {"Columns that a token reads", "percent of a residual's columns, on average", "attention",
                                        [](const auto& matrix) { return 100 * matrix.share; }, number}));
    }
    if (has_ranks(report_)) {
      page_.drawing(
          draw_heat(report_, {"Rank of the branches", "components", "attention", [](const auto& matrix) { return matrix.rank; }, number}));
    }
    if (report_.survey.curve.size() > 1)
      page_.drawing(draw_curve(report_, options_.branch_read_bytes > 0 ? "bytes that a token reads" : "bytes of branches"));
  }

  void add_losses() {
    page_.add(
        "<h2>What the matrices lose</h2>\n<p>Mean square of what a matrix's outputs lost, in percent of that of the outputs, on the inputs "
        "that it has once everything before it is compressed.</p>\n");
    double most = 0;
    for (const CompressedMatrixReport& matrix : report_.matrices) most = std::max(most, 100 * matrix.loss);
    const auto text = [](double value) { return formatted("{:.{}f}", value, value < 9.95 ? 1 : 0); };
    page_.drawing(draw_heat(report_, {"In few bits", "percent", "link", [](const auto& matrix) { return 100 * matrix.loss; }, text, most}));
    if (!has_corrections()) return;
    const std::string title = formatted("With {}", corrections()),
                      legend = is_trained() ? "percent, before training" : "percent";
    page_.drawing(draw_heat(report_, {title, legend, "link", [](const auto& matrix) { return 100 * matrix.loss_left; }, text, most}));
  }

  Rows totals() const {
    Rows rows = {{"file", formatted("{} from {}", format_bytes(report_.output_bytes), format_bytes(report_.input_bytes))},
                 {"matrices of the layers", formatted("{} with {} weights", report_.matrices.size(), report_.backbone_weights)},
                 {"in few bits", formatted("{}, {}", format_bytes(report_.backbone_bytes), bits_each(report_.backbone_bytes))}};
    if (report_.branch_bytes > 0) {
      rows.emplace_back(corrections(), formatted("{}, {}", format_bytes(report_.branch_bytes), bits_each(report_.branch_bytes)));
      rows.emplace_back("read of them by a token", formatted("{}, {}", format_bytes(report_.branch_read_bytes), bits_read()));
    }
    if (report_.survey.kl > 0)
      rows.emplace_back("distance in few bits, without corrections", formatted("{:.4f} nats a token", report_.survey.kl));
    if (is_trained()) {
      rows.emplace_back("distance before and after training",
                        formatted("{:.4f} and {:.4f} nats a token{}", report_.polish_kl_before, report_.polish_kl_after,
                                  report_.is_polish_kept ? "" : "; not kept, it is not nearer"));
      rows.emplace_back("training", formatted("{}, in at most {} of memory",
                                              report_.polish_scope == PolishScope::kBlock ? "layer by layer" : "of all layers together",
                                              format_bytes(report_.polish_bytes)));
    }
    if (quality_ != nullptr) add_quality(&rows);
    rows.emplace_back("calibration", formatted("{} tokens", report_.calibration_tokens));
    rows.emplace_back("memory held at most", memory_text());
    if (report_.resumed_windows > 0)
      rows.emplace_back("made by an interrupted run", formatted("{} windows of matrices", report_.resumed_windows));
    return rows;
  }

  void add_quality(Rows* rows) const {
    const auto nats = [](const CompressQuality::Figure& kl) { return formatted("{:.4f} ± {:.4f} nats a token", kl.value, kl.error); };
    if (!quality_->compensated) return void(rows->emplace_back("distance on text that was not used", nats(quality_->backbone)));
    rows->emplace_back("distance on text that was not used",
                       formatted("{}; without {} {}", nats(*quality_->compensated), corrections(), nats(quality_->backbone)));
    rows->emplace_back("recovered by " + corrections(),
                       formatted("{:.1f} ± {:.1f} %", 100 * quality_->recovered.value, 100 * quality_->recovered.error));
  }

  // As it was found beforehand: what was held in the end is less where the run went on after an interruption, and the page is to be the
  // same.
  std::string memory_text() const {
    const CompressMemory& memory = report_.memory;
    return format_bytes(memory.planned_bytes) + (memory.budget_bytes > 0 ? formatted(" of {}", format_bytes(memory.budget_bytes)) : "");
  }

  Rows options() const {
    Rows rows = {{"bits", options_.mixed_bits > 0 ? formatted("mixed, {} stored bits a weight on average", options_.mixed_bits)
                                                  : formatted("{}", options_.bits)},
                 {"levels", options_.levels == WeightLevels::kCodebook ? "a codebook's" : "equal steps"},
                 {"weights that share a scale", formatted("{}", options_.group_weights)}};
    if (options_.branch_bytes > 0) rows.emplace_back("budget for branches", format_bytes(options_.branch_bytes));
    if (options_.branch_read_bytes > 0) rows.emplace_back("budget for what a token reads", format_bytes(options_.branch_read_bytes));
    if (has_corrections())
      rows.emplace_back("shared out", options_.allocation == BranchAllocation::kMeasured && report_.survey.kl > 0
                                          ? "by measurement"
                                          : "the same for all, or fixed by kind");
    if (has_ranks(report_)) {
      rows.emplace_back("method", options_.method == BranchMethod::kHcinfer
                                      ? "plain singular vectors, as in HCInfer"
                                      : formatted("the best for the inputs, {} rounds", options_.rounds));
      rows.emplace_back("bits of factors", formatted("{}", options_.factor_bits));
      rows.emplace_back("steps of training", options_.polish_steps == 0 ? "none" : formatted("{}", options_.polish_steps));
    }
    rows.emplace_back("calibration", formatted("pieces of {} tokens, at most {} of them", options_.chunk_tokens, options_.most_chunks));
    return rows;
  }

  void add_table(const char* title, const Rows& rows) {
    page_.add("<h2>{}</h2>\n<div class=\"scroll\"><table>\n", title);
    for (const auto& [name, value] : rows) page_.add("<tr><td>{}</td><td>{}</td></tr>\n", markup_text(name), markup_text(value));
    page_.add("</table></div>\n");
  }

  void add_matrices() {
    page_.add("<details><summary>Matrices <span>{}</span></summary>\n<div class=\"scroll\"><table>\n", report_.matrices.size());
    page_.add(
        "<tr><th>matrix</th><th>rows</th><th>columns</th><th>bits</th><th>rank</th><th>columns read</th><th>in few "
        "bits</th><th>corrections</th><th>lost</th><th>left</th><th>worth, nats</th><th>restored</th></tr>\n");
    for (const CompressedMatrixReport& matrix : report_.matrices) {
      page_.add(
          "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</"
          "td><td>{}</td></tr>\n",
          markup_text(matrix.name), matrix.rows, matrix.columns, matrix.bits, matrix.rank == 0 ? "" : std::to_string(matrix.rank),
          matrix.share == 0 ? "" : percent_text(matrix.share), format_bytes(matrix.backbone_bytes),
          matrix.branch_bytes == 0 ? "" : format_bytes(matrix.branch_bytes), percent_text(matrix.loss), percent_text(matrix.loss_left),
          matrix.kl == 0 ? "" : formatted("{:.4f}", matrix.kl), matrix.restored == 0 ? "" : percent_text(matrix.restored));
    }
    page_.add("</table></div></details>\n");
  }

  const CompressReport& report_;
  const CompressOptions& options_;
  const CompressQuality* quality_;
  HtmlPage page_;
};

}  // namespace

std::string compress_page(const CompressReport& report, const CompressOptions& options, const ModelInfo& model, const std::string& output,
                          const CompressQuality* quality) {
  return ReportPage(report, options, model, output, quality).make();
}

}  // namespace outrigger
