// The flow of an attention task, shared by the versions: each brings a type W that knows how to attend one part and to fold two results.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_RUN_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_RUN_H_

#include <cstring>

#include "src/kernels/attention_task.h"

// W has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
// W(args, unit, scratch)              one unit at work
// w.attend_part(part, results)        the results of the rows that see any of the part, row r's at results + r * result_floats
// W::fold(into, from, head_dim)       adds the result of later positions
// W::finish(result, dst, head_dim)    the attention's output
namespace outrigger {

/// First row of the unit that sees any of the part; rows are in order of what they see.
template <typename W>
size_t first_seeing(const AttentionArgs& args, const AttentionUnit& unit, size_t part) {
  size_t row = unit.row_begin;
  while (row_positions(args, row) <= part * kPartPositions) ++row;
  return row - unit.row_begin;
}

template <typename W>
void attend_unit(const AttentionArgs& args, const AttentionUnit& unit, const AttentionScratch& scratch) {
  const size_t floats = result_floats(args.head_dim), rows = unit.row_end - unit.row_begin;
  const size_t parts = parts_of(row_positions(args, unit.row_end - 1));
  W work(args, unit, scratch);
  work.attend_part(0, scratch.states);
  for (size_t part = 1; part < parts; ++part) {
    work.attend_part(part, scratch.results);
    for (size_t r = first_seeing<W>(args, unit, part); r < rows; ++r) {
      W::fold(scratch.states + r * floats, scratch.results + r * floats, args.head_dim);
    }
  }
  for (size_t r = 0; r < rows; ++r) {
    W::finish(scratch.states + r * floats, args.dst + row_offset(args, unit, unit.row_begin + r, args.dst_stride), args.head_dim);
  }
}

/// Row r of unit u: folds what the wave has of it, and finishes it or carries it to the next wave.
template <typename W>
void fold_row(const AttentionArgs& args, const AttentionCut& cut, size_t wave, size_t u, size_t r) {
  const AttentionUnit unit = attention_unit(args, u);
  if (unit.row_begin + r >= unit.row_end) return;
  const size_t floats = result_floats(args.head_dim), first_item = u * cut.parts;
  const size_t begin = std::max(cut.wave_begin(wave), first_item) - first_item;
  const size_t end = std::min(cut.wave_end(wave), first_item + cut.parts) - first_item;
  const size_t seen = std::min(end, parts_of(row_positions(args, unit.row_begin + r)));
  const auto result = [&](size_t part) { return cut.item_slot(args, wave, first_item + part) + r * floats; };

  float* const state = begin == 0 ? result(0) : cut.carry(args, wave + 1) + r * floats;
  for (size_t part = std::max<size_t>(begin, 1); part < seen; ++part) W::fold(state, result(part), args.head_dim);
  if (end == cut.parts) {
    W::finish(state, args.dst + row_offset(args, unit, unit.row_begin + r, args.dst_stride), args.head_dim);
  } else {
    std::memcpy(cut.carry(args, wave) + r * floats, state, floats * sizeof(float));
  }
}

template <typename W>
void run_attention(const AttentionArgs& args, const AttentionTask& task) {
  const AttentionCut cut(args, task.threads);
  const AttentionScratch scratch = AttentionScratch::of_thread(args, task.thread);
  for (size_t i = task.begin; i < task.end; ++i) {
    switch (task.kind) {
      case AttentionTask::Kind::kUnits:
        attend_unit<W>(args, attention_unit(args, i), scratch);
        break;
      case AttentionTask::Kind::kParts: {
        const AttentionUnit unit = attention_unit(args, i / cut.parts);
        // A part that only later units' rows see is nobody's here.
        if (row_positions(args, unit.row_end - 1) <= i % cut.parts * kPartPositions) break;
        W(args, unit, scratch).attend_part(i % cut.parts, cut.item_slot(args, task.wave, i));
        break;
      }
      case AttentionTask::Kind::kFold:
        fold_row<W>(args, cut, task.wave, cut.first_unit(task.wave) + i / cut.rows, i % cut.rows);
        break;
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_RUN_H_
