// What may be asked of compressing.
#include <outrigger/compress.h>

#include <string>
#include <utility>

#include "src/base/formatted.h"
#include "src/compress/planning.h"
#include "src/tensor/own_form.h"

namespace outrigger {

Status CompressOptions::validate() const {
  const auto invalid = [](std::string message) { return Status(StatusCode::kInvalidArgument, "compressing: " + std::move(message)); };
  if (!own_type(bits)) return invalid(formatted("bits is {}, need 2, 3 or 4", bits));
  if (levels != WeightLevels::kUniform && levels != WeightLevels::kCodebook)
    return invalid(formatted("levels is {}, need 0 or 1", static_cast<int>(levels)));
  if (!own_type(bits, form_of(*this))) return invalid(formatted("group_weights is {}, need 64 or 128", group_weights));
  const double scale_bits = form_of(*this).scale_bits();
  if (mixed_bits != 0 && !(mixed_bits >= 2 + scale_bits && mixed_bits <= 4 + scale_bits)) {
    return invalid(
        formatted("mixed_bits is {}, need {} to {}, or 0 for the same bits everywhere", mixed_bits, 2 + scale_bits, 4 + scale_bits));
  }
  if (allocation != BranchAllocation::kMeasured && allocation != BranchAllocation::kUniform && allocation != BranchAllocation::kHcinfer) {
    return invalid(formatted("allocation is {}, need 0 to 2", static_cast<int>(allocation)));
  }
  if (method != BranchMethod::kWeighed && method != BranchMethod::kHcinfer)
    return invalid(formatted("method is {}, need 0 or 1", static_cast<int>(method)));
  if (form != BranchForm::kAuto && form != BranchForm::kLowRank && form != BranchForm::kSparse)
    return invalid(formatted("form is {}, need 0 to 2", static_cast<int>(form)));
  if (form == BranchForm::kSparse && (method == BranchMethod::kHcinfer || allocation == BranchAllocation::kHcinfer))
    return invalid("HCInfer has low-rank branches, not residuals");
  if (!(scattered_read_cost >= 1 && scattered_read_cost <= 100))
    return invalid(formatted("scattered_read_cost is {}, need 1 to 100", scattered_read_cost));
  if (!(max_slowdown >= 0 && max_slowdown <= 100)) return invalid(formatted("max_slowdown is {}, need 0 to 100", max_slowdown));
  if (max_slowdown > 0 && branch_read_bytes > 0) return invalid("max_slowdown and branch_read_bytes limit the same; give one of them");
  if (max_slowdown > 0 && !machine) return invalid("max_slowdown needs the profile of a machine");
  if (factor_bits != 4 && factor_bits != 8) return invalid(formatted("factor_bits is {}, need 4 or 8", factor_bits));
  if (polish_scope != PolishScope::kAuto && polish_scope != PolishScope::kEndToEnd && polish_scope != PolishScope::kBlock) {
    return invalid(formatted("polish_scope is {}, need 0 to 2", static_cast<int>(polish_scope)));
  }
  if (polish_target != PolishTarget::kBranches && polish_target != PolishTarget::kBackbone && polish_target != PolishTarget::kBoth) {
    return invalid(formatted("polish_target is {}, need 0 to 2", static_cast<int>(polish_target)));
  }
  if (method == BranchMethod::kHcinfer && polish_steps > 0 && polish_target != PolishTarget::kBranches)
    return invalid("HCInfer does not train a backbone; leave polish_target as it is, or set polish_steps to 0");
  if (polish_steps > 100000) return invalid(formatted("polish_steps is {}, need at most 100000", polish_steps));
  if (rounds > 16) return invalid(formatted("rounds is {}, need at most 16", rounds));
  if (chunk_tokens < 16 || chunk_tokens > 65536) return invalid(formatted("chunk_tokens is {}, need 16 to 65536", chunk_tokens));
  if (most_chunks == 0 || most_chunks > 65536) return invalid(formatted("most_chunks is {}, need 1 to 65536", most_chunks));
  if (feedback_columns % group_weights != 0)
    return invalid(formatted("feedback_columns is {}, need a multiple of {}, or 0", feedback_columns, group_weights));
  if (threads > 1024) return invalid(formatted("threads is {}, need at most 1024", threads));
  return {};
}

}  // namespace outrigger
