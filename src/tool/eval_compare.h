// A table over models: what each costs, and how far it is from the reference.
#ifndef OUTRIGGER_SRC_TOOL_EVAL_COMPARE_H_
#define OUTRIGGER_SRC_TOOL_EVAL_COMPARE_H_

#include <outrigger/session.h>
#include <outrigger/step_shape.h>

#include <string>
#include <vector>

#include "src/tool/comparison.h"
#include "src/tool/eval_text.h"
#include "src/tool/report.h"

namespace outrigger::tool {

/// One model of the table.
struct ComparedModel {
  /// With bytes of the layers and the head, and of what corrects them; distances where there is a reference
  ComparedFile file;
  uint64_t host_bytes = 0, device_bytes = 0;  ///< planned
  double tokens_per_s = 0;
  TextFigures figures;
};

/// Sets the bytes. A residual's are read in part.
void count_bytes(const StepShape& shape, ComparedFile* file);
/// Tokens a second of decoding one after the other, the median step of some. Leaves the session empty. Errors: those of Session::step.
Result<double> measure_decoding(Session& session, uint32_t context_tokens);

/// {"models":[...]}, and with a reference which of them are nearest.
Json compared_json(const std::vector<ComparedModel>& rows, bool has_reference);
std::string compared_text(const std::vector<ComparedModel>& rows, bool has_reference);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_EVAL_COMPARE_H_
