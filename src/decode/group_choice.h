// GroupChoice: whether the texts of a batch go together, or alternate in two groups.
#ifndef OUTRIGGER_SRC_DECODE_GROUP_CHOICE_H_
#define OUTRIGGER_SRC_DECODE_GROUP_CHOICE_H_

#include <outrigger/plan.h>

#include <algorithm>
#include <cstdint>

namespace outrigger {

/// What passes did: together, a draft and then a pass; alternating, a pass beside the other group's draft.
struct CycleRecord {
  double draft_ms = 0;  ///< of going together; 0: none was drafted
  double ms = 0;        ///< of all of it
  uint32_t tokens = 0;  ///< that texts grew by
  uint32_t groups = 1;  ///< in which the texts went
};

/// What a pass of the plan is expected to take however few tokens it has: from a decode step down to none by what each further token of a
/// prompt's step adds, and never less than reading what it streams.
double least_pass_ms(const Plan& plan);

/// Two groups hide drafting behind the other group's pass, and read the weights twice for as many texts: with a for what a pass takes
/// however few tokens it has, c for the same of a draft, and what grows with the texts the same either way, two groups are faster exactly
/// where a is less than what drafting for all takes, and c less than a pass. So as long as drafting is short beside reading the weights
/// they go together; else alternating is tried where it could be faster than both going together and drafting nothing, and kept if it is
/// measured to be. Pure: knows no clock.
/// @source SpecOffload (arXiv 2505.10259), which always alternates.
class GroupChoice {
 public:
  /// `wanted`: 1 or 2 groups, or 0 as it pays. `least_pass_ms`: that of the plan.
  GroupChoice(uint32_t wanted, double least_pass_ms) : wanted_(wanted), least_pass_ms_(least_pass_ms), groups_(wanted == 2 ? 2 : 1) {}

  /// Groups of the next pass: 1 or 2.
  uint32_t next() const { return groups_; }
  /// Of a pass of texts that were written, not read. What went in other groups than next() said tells nothing.
  void record(const CycleRecord& cycle);
  /// Goes together again, since nothing is drafted that could be hidden; not where 2 groups are wanted.
  void stop_alternating() {
    if (wanted_ == 0) go_together();
  }

 private:
  struct Mean {
    double sum = 0, weight = 0;
    void add(double of, double by);
    double value() const { return weight > 0 ? sum / weight : 0; }
  };
  double best_together() const { return std::max(together_.value(), plain_.value()); }
  double most_alternating() const;
  void judge_together();
  void judge_alternating();
  void go_together();

  const uint32_t wanted_;
  const double least_pass_ms_;
  uint32_t groups_;
  uint32_t passes_ = 0;          ///< since it changed
  uint32_t drafted_ = 0;         ///< of them with a draft
  Mean draft_ms_, pass_ms_, tokens_;     ///< of those
  Mean plain_, together_, alternating_;  ///< tokens over time: without a draft, and with one
  uint32_t pause_ = 0;           ///< passes before alternating may be tried again
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_GROUP_CHOICE_H_
