// PassWalk: what the compressor takes and gives back, in its order.
#ifndef OUTRIGGER_SRC_COMPRESS_PASS_WALK_H_
#define OUTRIGGER_SRC_COMPRESS_PASS_WALK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "src/compress/compress_need.h"
#include "src/compress/gram.h"
#include "src/compress/memory_tally.h"

namespace outrigger {

/// What a pass is asked for besides its plans.
struct PassDemands {
  uint32_t surveyed_rank = 0;
  bool surveys_columns = false;
  bool keeps_backbone = false;
};

/// Follows Compressor and what it calls, allocation for allocation where nothing depends on the data. Threads: one.
class PassWalk {
 public:
  using Held = MemoryTally::Held;

  PassWalk(const CompressScale& scale, std::span<const MatrixPlan> plans, const PassDemands& demands, MemoryTally* tally);

  /// A whole pass. What it leaves to its caller is held until the object dies.
  void run();

  /// LayerForward for chunks, with the fixed tensors.
  [[nodiscard]] std::vector<Held> forward(MemoryUse use, uint64_t tokens);
  /// Packed floats of a matrix, of a stack one expert's; while it is packed its values are there.
  [[nodiscard]] Held packed(MemoryUse use, uint64_t rows, uint64_t columns);
  /// The values of a matrix; while they are read the file's bytes are there.
  [[nodiscard]] Held read(MemoryUse use, uint32_t matrix);
  /// Both, one after the other.
  [[nodiscard]] Held read_packed(MemoryUse use, uint32_t matrix);

 private:
  void attention(const LayerLayout& parts);
  void ffn(const FfnLayout& parts, uint64_t width);
  void mixture(const LayerLayout& parts);
  void expert(const FfnLayout& parts);
  /// One matrix, by inputs of which `sampled_rows` are kept. Gives what its backbone takes.
  [[nodiscard]] Held make(uint32_t matrix, uint64_t sampled_rows, std::vector<Held>* window);
  /// Matrices by inputs whose Gram matrix goes when it is factorised, and whose sample when all are made.
  [[nodiscard]] std::vector<Held> window(std::span<const uint32_t> matrices, uint64_t width, Held gram, Held sample);
  void add_to_gram(uint64_t width, uint64_t tokens);
  [[nodiscard]] Held feedback(uint64_t width);
  [[nodiscard]] std::vector<Held> root(uint64_t width);
  void quantise(uint64_t columns);
  void find_components(uint64_t rows, uint64_t columns, uint64_t rank);
  void measure(uint64_t rows, uint64_t columns, uint64_t sampled_rows);
  void correct(uint32_t matrix, uint64_t sampled_rows);
  ColumnGroups groups(uint64_t width) const { return ColumnGroups(width, scale_.options.feedback_columns); }
  [[nodiscard]] Held gram(uint64_t width) { return tally_.doubles(MemoryUse::kGrams, groups(width).elements()); }
  [[nodiscard]] Held sample(uint64_t width) { return tally_.floats(MemoryUse::kCalibration, sampled_rows() * width); }
  uint64_t sampled_rows() const;
  uint64_t correction_bytes(uint32_t matrix) const;
  uint64_t backbone_bytes(uint32_t matrix) const;
  /// What a residual has besides its columns: norms, means and bias, of a stack one expert's.
  uint64_t vector_bytes(uint32_t matrix) const;

  const CompressScale& scale_;
  const ModelLayout& layout_;
  const std::span<const MatrixPlan> plans_;
  const PassDemands demands_;
  const uint64_t chunk_;
  MemoryTally& tally_;
  std::vector<Held> kept_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_PASS_WALK_H_
