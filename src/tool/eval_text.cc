// Perplexity of a text, and how far one run's predictions are from another's.
#include "src/tool/eval_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/interrupt.h"

namespace outrigger::tool {

Status TextEvaluation::score_block(std::span<const Token> block, std::span<const Token> answers, TextFigures& figures) {
  if (reference_ != nullptr) {
    const auto keep = [this](size_t index, std::span<const float> row) { reference_rows_[index].assign(row.begin(), row.end()); };
    if (Status status = reference_->evaluate(block, keep, interrupt_token()); !status.is_ok()) return status;
  }
  Status written;
  const auto score = [&](size_t index, std::span<const float> row) {
    const auto answer = static_cast<size_t>(answers[index]);
    figures.nll.add(negative_log_likelihood(row, answer));
    if (logits_ != nullptr && written.is_ok()) written = logits_->add_row(row);
    if (reference_ == nullptr) return;
    const std::vector<float>& expected = reference_rows_[index];
    figures.reference_nll.add(negative_log_likelihood(expected, answer));
    figures.kl_samples.push_back(kl_divergence(expected, row));
    figures.kl.add(figures.kl_samples.back());
    figures.same_top.add(top(expected) == top(row) ? 1 : 0);
  };
  if (Status status = session_.evaluate(block, score, interrupt_token()); !status.is_ok()) return status;
  return written;
}

Status TextEvaluation::run_chunk(std::span<const Token> chunk, TextFigures& figures) {
  const size_t first = chunk.size() / 2, last = chunk.size() - 1;
  for (Session* const each : {&session_, reference_}) {
    if (each == nullptr) continue;
    if (Status status = each->truncate(0); !status.is_ok()) return status;
    if (Status status = each->prefill(chunk.first(first), {}, interrupt_token()); !status.is_ok()) return status;
  }
  for (size_t begin = first; begin < last; begin += kEvaluationRows) {
    const size_t count = std::min<size_t>(kEvaluationRows, last - begin);
    if (Status status = score_block(chunk.subspan(begin, count), chunk.subspan(begin + 1, count), figures); !status.is_ok()) return status;
  }
  return Status();
}

Result<TextFigures> TextEvaluation::run(const TextChunks& text) {
  const Interruptible interruptible;
  ProgressLine line(progress_, "evaluating");
  TextFigures figures;
  reference_rows_.resize(kEvaluationRows);
  std::vector<Token> chunk(text.context_tokens);
  for (size_t i = 0; i < text.chunks; ++i) {
    std::copy_n(text.tokens.begin() + static_cast<ptrdiff_t>(i * chunk.size()), chunk.size(), chunk.begin());
    if (text.bos >= 0) chunk.front() = text.bos;
    if (Status status = run_chunk(chunk, figures); !status.is_ok()) return status;
    for (Mean* const figure : {&figures.nll, &figures.reference_nll, &figures.kl, &figures.same_top}) figure->end_group();
    line.update(static_cast<double>(i + 1) / static_cast<double>(text.chunks));
  }
  std::sort(figures.kl_samples.begin(), figures.kl_samples.end());
  return figures;
}

namespace {

Json estimate_json(const Estimate& estimate) { return {{"value", estimate.value}, {"error", estimate.error}}; }

}  // namespace

Json figures_json(const TextFigures& figures, bool compared) {
  Json document = {{"tokens_scored", figures.nll.count()}, {"perplexity", estimate_json(perplexity(figures.nll))}};
  if (!compared) return document;
  const Estimate kl = figures.kl.estimate();
  document["reference_perplexity"] = estimate_json(perplexity(figures.reference_nll));
  document["kl"] = {{"mean", kl.value},
                    {"error", kl.error},
                    {"p99", quantile(figures.kl_samples, 0.99)},
                    {"max", figures.kl_samples.back()},
                    {"chunks", figures.kl.group_means()}};
  document["same_top"] = estimate_json(figures.same_top.estimate());
  return document;
}

std::string figures_text(const TextFigures& figures, bool compared) {
  const Estimate own = perplexity(figures.nll);
  std::string text =
      fmt::format("{:<24}{}\n{:<24}{:.4f} +- {:.4f}\n", "tokens scored", figures.nll.count(), "perplexity", own.value, own.error);
  if (!compared) return text;
  const Estimate reference = perplexity(figures.reference_nll), kl = figures.kl.estimate();
  const Estimate same = figures.same_top.estimate();
  text += fmt::format("{:<24}{:.4f} +- {:.4f}\n", "reference perplexity", reference.value, reference.error);
  text += fmt::format("{:<24}{:.6f} +- {:.6f} (99 %: {:.6f}, most: {:.6f})\n", "KL divergence", kl.value, kl.error,
                      quantile(figures.kl_samples, 0.99), figures.kl_samples.back());
  return text + fmt::format("{:<24}{:.2f} % +- {:.2f} %\n", "same most likely token", same.value * 100, same.error * 100);
}

}  // namespace outrigger::tool
