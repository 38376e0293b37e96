// What the nodes of a model's step are called.
#ifndef OUTRIGGER_SRC_MODEL_NODE_LABEL_H_
#define OUTRIGGER_SRC_MODEL_NODE_LABEL_H_

#include "src/graph/tracer.h"
#include "src/memory/residency.h"
#include "src/model/layout.h"

namespace outrigger {

/// A LaneTeller. The host's lane waits for what the disk is busy with, on a track of its own, and by words for what the device computes,
/// whose own nodes are then its submission and, the last, what it computes after the host's last part.
std::optional<Lane> working_lane(const TaskGraph& graph, NodeId node, Lane lane);
/// "embed", "blk.3 gate_up", "fetch unit 17": with the packed bytes of weights that a product reads, or the file's that a fetch does. What
/// the disk is busy with the host's lane waits for: "wait for unit 17".
NodeLabel label_node(const ModelLayout& layout, const TensorResidency& residency, const TaskGraph& graph, NodeId node, Lane lane);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_NODE_LABEL_H_
