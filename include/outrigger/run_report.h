// RunReport: what a run did, as a page for a person.
#ifndef OUTRIGGER_RUN_REPORT_H_
#define OUTRIGGER_RUN_REPORT_H_

#include <outrigger/engine.h>
#include <outrigger/export.h>
#include <outrigger/speculation.h>
#include <outrigger/status.h>

#include <cstdint>
#include <string>

namespace outrigger {

/// Of one text, or sums over several. What is 0 is not told.
struct RunReport {
  std::string what;  ///< a line for a person: "12 prompts, 4 at once"
  uint64_t prompt_tokens = 0, tokens = 0;
  double prefill_tokens_per_s = 0, decode_tokens_per_s = 0;
  double total_tokens_per_s = 0;  ///< new tokens of all texts over the time of all, where several ran at once
  SpeculationReport speculation;
};

/// One HTML page that needs nothing else: rates beside what the plan expected, memory, how long each lane worked where the engine keeps a
/// trace (EngineOptions::trace_events), what drafts took and what was accepted of them by its depth, and the plan as text. Waits for a
/// running step. Errors: kOutOfMemory.
OTR_API Result<std::string> run_to_html(const Engine& engine, const RunReport& report);

}  // namespace outrigger

#endif  // OUTRIGGER_RUN_REPORT_H_
