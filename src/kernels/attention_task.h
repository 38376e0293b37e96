// A piece of an attention call, as attention.cc hands it to the version in use, and the scratch that the pieces share.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_TASK_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_TASK_H_

#include "src/kernels/attention_rows.h"

// Internal linkage for the reason given in avx512.h.
namespace outrigger {
namespace {

/// Results of single parts that a thread's scratch holds: at 8192 positions those of 18 heads for two threads.
constexpr size_t kSlotRows = 144;

/// A thread's scratch. The plain twin uses results, states and slots only.
struct AttentionScratch {
  float* queries;  ///< [kRowBlock][padded_dim], times the scale
  float* scores;   ///< [kRowBlock][kPositionBlock], then the weights
  float* maxima;   ///< [kRowBlock][16]: the first is the largest score so far
  float* results;  ///< [kRowBlock] results of a part
  float* states;   ///< [kRowBlock] results of all parts so far
  float* slots;    ///< [kSlotRows] results that wait to be folded

  AttentionScratch(std::byte* memory, size_t head_dim) : queries(reinterpret_cast<float*>(memory)) {
    scores = queries + kRowBlock * padded_dim(head_dim);
    maxima = scores + kRowBlock * kPositionBlock;
    results = maxima + kRowBlock * 16;
    states = results + kRowBlock * result_floats(head_dim);
    slots = states + kRowBlock * result_floats(head_dim);
  }

  static size_t floats(size_t head_dim) {
    return kRowBlock * (padded_dim(head_dim) + kPositionBlock + 16) + (2 * kRowBlock + kSlotRows) * result_floats(head_dim);
  }
  static AttentionScratch of_thread(const AttentionArgs& args, size_t thread) {
    return {args.scratch + thread * floats(args.head_dim) * sizeof(float), args.head_dim};
  }
};

/// How a call is cut among threads: whole units, or, where units cannot be shared evenly, the parts of each. Parts are taken in waves that
/// the slots can hold, whatever the context. The choice changes no bit of a result.
struct AttentionCut {
  size_t units, parts;                   ///< parts of a unit, as many as its last row sees
  size_t rows;                           ///< of a unit, at most
  size_t positions;                      ///< of the last token
  size_t slots_per_thread, wave_items;   ///< an item is a part of a unit: i / parts and i % parts
  bool is_split;

  AttentionCut(const AttentionArgs& args, size_t threads)
      : units(attention_units(args)),
        rows(std::min(kRowBlock, args.tokens * head_group(args))),
        positions(token_positions(args, args.tokens - 1)) {
    parts = parts_of(positions);
    slots_per_thread = kSlotRows / rows;
    wave_items = slots_per_thread * threads - 2;
    // Units that keep each thread busy for all but a sixteenth of the time need no cutting.
    const size_t each = (units + threads - 1) / threads;
    is_split = parts > 1 && each * threads * 16 > units * 17;
  }

  size_t items() const { return units * parts; }
  size_t wave_begin(size_t wave) const { return wave * wave_items; }
  size_t wave_end(size_t wave) const { return std::min(items(), (wave + 1) * wave_items); }
  size_t waves() const { return (items() + wave_items - 1) / wave_items; }
  /// Units that a wave touches: all but the first and the last wholly.
  size_t first_unit(size_t wave) const { return wave_begin(wave) / parts; }
  size_t end_unit(size_t wave) const { return (wave_end(wave) - 1) / parts + 1; }

  /// Where slot s begins: `rows` results. Slots 0 and 1 carry a unit's results from wave to wave, by turns; the others are a wave's items.
  float* slot(const AttentionArgs& args, size_t s) const {
    return AttentionScratch::of_thread(args, s / slots_per_thread).slots + s % slots_per_thread * rows * result_floats(args.head_dim);
  }
  float* carry(const AttentionArgs& args, size_t wave) const { return slot(args, wave % 2); }
  float* item_slot(const AttentionArgs& args, size_t wave, size_t item) const { return slot(args, 2 + item - wave_begin(wave)); }
};

}  // namespace

struct AttentionTask {
  enum class Kind : uint8_t {
    kUnits,  ///< [begin, end) are units: all their parts
    kParts,  ///< [begin, end) are items of the wave: their results into slots
    kFold,   ///< [begin, end) are rows of the wave's units: their slots in order
  };
  Kind kind;
  size_t begin, end;
  size_t thread, threads;
  size_t wave;
};

void attention_ref(const AttentionArgs& args, const AttentionTask& task);     ///< the definition
void attention_avx2(const AttentionArgs& args, const AttentionTask& task);    ///< needs SimdLevel::kAvx2
void attention_avx512(const AttentionArgs& args, const AttentionTask& task);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_TASK_H_
