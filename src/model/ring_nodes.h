// RingNodes: the nodes that keep a ring of slots filled while a step's graph is built.
#ifndef OUTRIGGER_SRC_MODEL_RING_NODES_H_
#define OUTRIGGER_SRC_MODEL_RING_NODES_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "src/graph/task_graph.h"
#include "src/model/step_graph.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {

inline constexpr uint32_t kNoUnit = UINT32_MAX;

/// Where each streamed row block is: the pieces of a matrix in order, with their units.
struct PieceOfMatrix {
  uint32_t unit;
  OperandRef operand;
};

/// A step of N units has N arrivals and N requests, on one lane: once unit j was used last, unit (j + ring slots) mod N is requested into
/// its slot. On the lane of those who use the units each comes just where it is needed, and nobody has to be told.
class RingNodes {
 public:
  RingNodes(const StreamLayout& layout, size_t matrices, Lane lane, StepOp arrive, StepOp request)
      : layout_(layout), lane_(lane), arrive_(arrive), request_(request), pieces_(matrices) {
    for (uint32_t unit = 0; unit < layout.units.size(); ++unit) {
      for (const StreamPiece& piece : layout.units[unit].pieces)
        pieces_[piece.matrix].push_back({unit, {piece.matrix, piece.first_block, piece.blocks}});
    }
  }

  const std::vector<PieceOfMatrix>& pieces(uint32_t matrix) const { return pieces_[matrix]; }
  void begin(bool with_logits) {
    units_ = layout_.step_units(with_logits);
    last_use_.assign(units_, 0);
  }
  /// In the order of use, before the first node is made.
  void note_use(uint32_t unit, size_t user) { last_use_[unit] = user; }
  bool is_last_use(uint32_t unit, size_t user) const { return last_use_[unit] == user; }

  NodeId arrival(TaskGraph& graph, uint32_t unit) {
    while (arrivals_.size() <= unit)
      arrivals_.push_back(graph.add(lane_, static_cast<uint16_t>(arrive_), static_cast<uint32_t>(arrivals_.size())));
    return arrivals_[unit];
  }

  /// The next unit's arrival comes before the request, so that it is taken care of while this unit is still computed with. A ring of one
  /// slot has room for it only afterwards.
  void release(TaskGraph& graph, uint32_t unit, NodeId last_user) {
    if (lane_ != Lane::kHost && unit + 1 < units_ && layout_.ring_slots > 1) (void)arrival(graph, unit + 1);
    graph.add(lane_, static_cast<uint16_t>(request_), (unit + layout_.ring_slots) % units_, {}, {&last_user, 1});
  }

 private:
  const StreamLayout& layout_;
  const Lane lane_;
  const StepOp arrive_, request_;
  std::vector<std::vector<PieceOfMatrix>> pieces_;  // by matrix
  uint32_t units_ = 0;
  std::vector<size_t> last_use_;                    // by unit
  std::vector<NodeId> arrivals_;                    // by unit
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_RING_NODES_H_
