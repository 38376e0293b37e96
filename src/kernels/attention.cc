// Attention: shares a call among the members of a team, and runs the version for the level in use.
#include "src/kernels/attention.h"

#include "src/kernels/attention_task.h"
#include "src/kernels/dispatch.h"

namespace outrigger {
namespace {

/// The first item of the member's share of a wave: items count by their positions, since each unit's last part may be a short one.
size_t share_begin(const AttentionCut& cut, size_t wave, size_t member, size_t members) {
  const auto place = [&cut](size_t item) { return item / cut.parts * cut.positions + item % cut.parts * kPartPositions; };
  const size_t begin = place(cut.wave_begin(wave)), end = place(cut.wave_end(wave));
  const size_t wanted = begin + ((end - begin) * member + members - 1) / members;
  return wanted / cut.positions * cut.parts + parts_of(wanted % cut.positions);
}

void attend_in_waves(const AttentionArgs& args, const AttentionCut& cut, const TeamMember& member) {
  AttentionTask task{.thread = member.index(), .threads = member.count()};
  for (task.wave = 0; task.wave < cut.waves(); ++task.wave) {
    if (task.wave > 0) member.barrier();  // the slots are free again
    task.kind = AttentionTask::Kind::kParts;
    task.begin = share_begin(cut, task.wave, member.index(), member.count());
    task.end = share_begin(cut, task.wave, member.index() + 1, member.count());
    OTR_VERSION(attention)(args, task);
    member.barrier();
    task.kind = AttentionTask::Kind::kFold;
    member.share((cut.end_unit(task.wave) - cut.first_unit(task.wave)) * cut.rows, 1, &task.begin, &task.end);
    OTR_VERSION(attention)(args, task);
  }
}

}  // namespace

uint64_t attention_scratch_bytes(size_t head_dim) { return AttentionScratch::floats(head_dim) * sizeof(float); }

void attention(const AttentionArgs& args, const TeamMember& member) {
  const AttentionCut cut(args, member.count());
  if (cut.is_split) return attend_in_waves(args, cut, member);
  AttentionTask task{.kind = AttentionTask::Kind::kUnits, .thread = member.index(), .threads = member.count()};
  member.share(cut.units, 1, &task.begin, &task.end);
  OTR_VERSION(attention)(args, task);
}

}  // namespace outrigger
