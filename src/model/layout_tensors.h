// LayoutTensors: finds the tensors of a model file by name, checks each, and enters it into the layout.
#ifndef OUTRIGGER_SRC_MODEL_LAYOUT_TENSORS_H_
#define OUTRIGGER_SRC_MODEL_LAYOUT_TENSORS_H_

#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "src/io/gguf.h"
#include "src/model/layout.h"

namespace outrigger {

/// "blk.3.attn_q.weight"
std::string layer_tensor_name(uint32_t layer, const char* part, const char* kind = "weight");

/// Threads: one. Errors of all calls: those of lay_out_model().
class LayoutTensors {
 public:
  /// Both must outlive it.
  LayoutTensors(const GgufFile& file, ModelLayout& layout) : file_(file), layout_(layout) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }
  Result<const GgufTensor*> require(const std::string& name) const;
  Status wrong_shape(const GgufTensor& tensor, const std::string& need) const;

  /// Matrices that are added from now on have another input than those before.
  void next_window() { ++window_; }
  /// The index of the new matrix.
  Result<uint32_t> add_matrix(const std::string& name, uint32_t layer, uint64_t rows, uint64_t columns);
  /// The second dimension of a branch's first factor, which is what says it. Precondition: the file has the tensor.
  Result<uint32_t> rank_of_branch(const std::string& name) const;
  /// Where a residual's columns are in the file. `experts`: of a stack. Precondition: the file has the tensor.
  Result<ResidualLayout> take_residual(const std::string& name, uint64_t rows, uint64_t columns, std::optional<uint32_t> experts);
  /// The experts' matrices `part` ("ffn_gate") of a layer, in whichever of the forms the file has.
  Result<uint32_t> add_stack(const char* part, uint32_t layer, uint64_t rows, uint64_t columns);
  /// The offset in floats. `experts`: a vector of `each` elements for so many of them, one after the other.
  Result<uint64_t> add_fixed(const std::string& name, uint64_t each, std::optional<uint32_t> experts = std::nullopt);
  uint64_t fixed_floats() const { return fixed_floats_; }

  /// A tensor that nobody asked for, a bias or a second norm, would change the text without a word.
  Status refuse_leftovers() const;

 private:
  Result<PackedKind> kind_of(const GgufTensor& tensor) const;
  uint32_t enter(const std::string& name, uint32_t layer, MatrixUse use, WeightSource source);
  Result<WeightSource> whole_stack(const GgufTensor& tensor, uint64_t rows, uint64_t columns);
  Result<WeightSource> single_experts(const char* part, uint32_t layer, uint64_t rows, uint64_t columns);

  const GgufFile& file_;
  ModelLayout& layout_;
  uint32_t window_ = 0;
  uint64_t fixed_floats_ = 0;
  std::set<std::string, std::less<>> used_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_LAYOUT_TENSORS_H_
