// OperandRef and OperandSource: how a node names the weights it reads, and who turns the name into an address.
#ifndef OUTRIGGER_SRC_GRAPH_OPERAND_H_
#define OUTRIGGER_SRC_GRAPH_OPERAND_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// Row blocks [first_block, first_block + blocks) of matrix `matrix` (its index in StepShape::matrices).
struct OperandRef {
  uint32_t matrix = 0;
  uint32_t first_block = 0, blocks = 0;
};

/// Knows where weights are right now.
class OperandSource {
 public:
  virtual ~OperandSource() = default;
  /// The packed bytes of the operand. Precondition: it is resident, or the node that fetches it has run and the one that frees its
  /// slot has not. Valid until then. Any thread; allocates nothing; never fails.
  virtual const std::byte* operand(const OperandRef& ref) const = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_GRAPH_OPERAND_H_
