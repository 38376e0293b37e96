// A step, node by node.
#include "src/model/step_runner.h"

#include <algorithm>

#include "src/base/macros.h"
#include "src/kernels/append_kv.h"
#include "src/kernels/attention.h"
#include "src/kernels/rms_norm.h"
#include "src/kernels/rope.h"
#include "src/kernels/silu_mul.h"

namespace outrigger {

StepRunner::StepRunner(const ModelLayout& layout, TensorResidency& residency, ThreadTeam& team, const StepBuffers& buffers,
                       const float* fixed, Numerics numerics, const OperandSource* in_memory)
    : layout_(layout),
      config_(layout.config),
      residency_(residency),
      team_(team),
      is_all_in_memory_(in_memory != nullptr),
      buffers_(buffers),
      fixed_(fixed),
      args_(layout, in_memory != nullptr ? *in_memory : residency, buffers, fixed, numerics),
      angles_(layout, fixed) {}

void StepRunner::begin(const StepInput& input, uint32_t expert_waves, const CancelToken& cancel) {
  input_ = input;
  cancel_ = &cancel;
  if (tracer_ != nullptr) disk_traced_ns_ = Tracer::now_ns();  // what came before belongs to no step
  args_.begin(input);
  if (device_ != nullptr) device_->begin(input);
  expert_waves_ = expert_waves;
}

void StepRunner::trace_to(Tracer* tracer) {
  tracer_ = tracer;
  if (device_ != nullptr) device_->trace_to(tracer);
}

std::span<const float> StepRunner::logits(size_t i) const {
  return {buffers_.logits + i * (StepBuffers::logits_row_bytes(layout_.vocabulary) / sizeof(float)), layout_.vocabulary};
}

Status StepRunner::run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) {
  if (lane != Lane::kHost && lane != Lane::kDisk) return device_->run_segment(graph, lane, nodes);
  if (lane == Lane::kHost) return run_host_segment(graph, nodes);
  NodeTrace trace(tracer_, lane);
  for (const NodeId id : nodes) {
    trace.next(id);
    OTR_TRY(run_disk_node(graph.nodes()[id], trace));
  }
  return {};
}

// What waits for the disk or a device, or asks for more, is the calling thread's alone; between, the team computes in one region. A wait
// inside a region would look to the team as if others kept it from running.
Status StepRunner::run_host_segment(const TaskGraph& graph, std::span<const NodeId> nodes) {
  const auto is_callers = [&graph](NodeId id) {
    const auto op = static_cast<StepOp>(graph.nodes()[id].op);
    return op == StepOp::kArrive || op == StepOp::kRequest || op == StepOp::kArriveExperts || op == StepOp::kRequestExperts ||
           op == StepOp::kReceiveResidual || op == StepOp::kReceiveInput;
  };
  NodeTrace trace(tracer_, Lane::kHost);
  failure_ = Status();
  for (size_t begin = 0, end; begin < nodes.size(); begin = end) {
    end = begin + 1;
    if (is_callers(nodes[begin])) {
      trace.next(nodes[begin]);
      OTR_TRY(run_caller_node(graph, nodes[begin]));
      continue;
    }
    while (end < nodes.size() && !is_callers(nodes[end])) ++end;
    // A barrier after each node: the next one reads what all members wrote. The region's end is the last node's.
    team_.run_elastic([&](const TeamMember& member) {
      for (size_t i = begin; i < end; ++i) {
        if (i > begin) member.barrier();
        if (member.index() == 0) trace.next(nodes[i]);
        run_node(graph, graph.nodes()[nodes[i]], member);
      }
    });
    if (!failure_.is_ok()) return failure_;
  }
  return {};
}

Status StepRunner::run_caller_node(const TaskGraph& graph, NodeId id) {
  const uint32_t argument = graph.nodes()[id].argument, wave = ExpertWave::of(argument).wave;
  if (cancel_->is_cancelled()) return Status(StatusCode::kCancelled, "the step was cancelled");
  switch (static_cast<StepOp>(graph.nodes()[id].op)) {
    case StepOp::kReceiveResidual:
    case StepOp::kReceiveInput: return take_over(graph.nodes()[id]);
    case StepOp::kRequest: return residency_.request(argument);
    case StepOp::kRequestExperts: return residency_.experts()->request();
    case StepOp::kArriveExperts:
      OTR_TRY(residency_.experts()->arrive(wave));
      trace_arrival(graph, id, residency_.experts()->times(wave));
      return {};
    default:
      OTR_TRY(residency_.arrive(argument));
      trace_arrival(graph, id, residency_.unit_times(argument));
      return {};
  }
}

// The disk's track shows when it was on its way, one after the other, unless others are drawn there.
void StepRunner::trace_arrival(const TaskGraph& graph, NodeId id, const UnitTimes& times) {
  if (tracer_ == nullptr || times.arrived_ns == 0 || !graph.lane_nodes(Lane::kDisk).empty()) return;
  const int64_t begin_ns = std::max(times.requested_ns, disk_traced_ns_);
  disk_traced_ns_ = std::max(begin_ns, times.arrived_ns);
  tracer_->record(Lane::kDisk, id, begin_ns, disk_traced_ns_);
}

Status StepRunner::move_kv(uint32_t layer, Status (KvCache::*move)(uint32_t, uint32_t, uint32_t, uint64_t*) const, NodeTrace& trace) const {
  uint64_t moved = 0;
  for (const SequenceSlice& slice : input_.slices) OTR_TRY((slice.cache->*move)(layer, slice.place(0), slice.tokens, &moved));
  trace.moved(moved);
  return {};
}

Status StepRunner::run_disk_node(const TaskNode& node, NodeTrace& trace) {
  switch (static_cast<StepOp>(node.op)) {
    case StepOp::kFetchKv: return move_kv(node.argument, &KvCache::fetch, trace);
    case StepOp::kStoreKv: return move_kv(node.argument, &KvCache::store, trace);
    default: return Status(StatusCode::kInternal, "a node of the host on the disk lane");
  }
}

void StepRunner::run_node(const TaskGraph& graph, const TaskNode& node, const TeamMember& member) {
  const uint32_t layer = node.argument;
  switch (static_cast<StepOp>(node.op)) {
    case StepOp::kEmbed: return embed(member), fill_angles(member);
    case StepOp::kAttentionNorm: return attention_norm(layer, member);
    case StepOp::kRopeAppend: return rope_and_append(layer, member);
    case StepOp::kAttention: return attend(layer, member);
    case StepOp::kFfnNorm: return ffn_norm(layer, member);
    case StepOp::kSiluMul: return silu(config_.ffn_width, layout_.layers[layer].ffn.down, member);
    case StepOp::kSharedSiluMul: return silu(config_.shared_ffn_width, layout_.layers[layer].shared.down, member);
    case StepOp::kOutputNorm: return output_norm(member);
    case StepOp::kRoute: return route_tokens(layer, member);
    case StepOp::kGuess: return guess_experts(layer, member);
    case StepOp::kExperts: return compute_wave(ExpertWave::of(node.argument), member);
    case StepOp::kCombine: return combine(layer, member);
    case StepOp::kQkv:
    case StepOp::kOutput:
    case StepOp::kGateUp:
    case StepOp::kDown:
    case StepOp::kHead:
    case StepOp::kRouter:
    case StepOp::kSharedGateUp:
    case StepOp::kBranchOut:
    case StepOp::kSharedDown: return product(graph, node, member);
    case StepOp::kResidual: return add_residuals(BranchWindow::of(node.argument), member);
    case StepOp::kBranchPanel: return branch_panels(BranchWindow::of(node.argument), member);
    case StepOp::kBeginCorrection: return begin_correction(BranchWindow::of(node.argument), member);
    case StepOp::kSendResidual: return give_residual(member);
    case StepOp::kSendCorrection: return give_correction(BranchWindow::of(node.argument), member);
    case StepOp::kReceiveResidual:
    case StepOp::kReceiveInput:
    case StepOp::kArrive:
    case StepOp::kRequest:
    case StepOp::kArriveExperts:
    case StepOp::kRequestExperts: return;  // the calling thread's, between regions
    case StepOp::kFetchKv:
    case StepOp::kStoreKv: return;  // the disk lane's
    case StepOp::kArriveOnDevice:
    case StepOp::kRequestToDevice:
    case StepOp::kUploadAngles:
    case StepOp::kUpload:
    case StepOp::kDownload:
    case StepOp::kDownloadInput:
    case StepOp::kUploadCorrection:
    case StepOp::kAddCorrection:
    case StepOp::kSendInput:
    case StepOp::kReceiveCorrection:
    case StepOp::kSubmit:
    case StepOp::kFinish:
    case StepOp::kDownloadLogits: return;  // DeviceRunner's
  }
}

// Rows that are in memory are shared among the members; reading them from the file is one member's work, since the row buffer is one.
void StepRunner::embed(const TeamMember& member) {
  const bool in_memory = residency_.is_resident(layout_.embedding);
  const Share mine = in_memory ? share_of(member, input_.tokens.size()) : Share{0, member.index() == 0 ? input_.tokens.size() : 0};
  for (size_t t = mine.begin; t < mine.end; ++t) {
    float* const dst = buffers_.residual + t * config_.width;
    const uint64_t row = static_cast<uint64_t>(input_.tokens[t]);
    if (in_memory) {
      const WeightSource& weights = layout_.weights[layout_.embedding];
      unpack_row(weights.kind, residency_.operand({layout_.embedding, 0, 1}), row, weights.columns, dst);
    } else if (Status status = residency_.read_row(layout_.embedding, row, dst); !status.is_ok()) {
      failure_ = std::move(status);
      return;
    }
  }
}

void StepRunner::fill_angles(const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  for (const SequenceSlice& slice : input_.slices) {
    const size_t begin = std::max<size_t>(mine.begin, slice.first_token),
                 end = std::min<size_t>(mine.end, slice.first_token + slice.tokens);
    for (size_t t = begin; t < end; ++t)
      angles_.fill(slice.position(static_cast<uint32_t>(t - slice.first_token)), buffers_.cos_sin + t * config_.rope_dim);
  }
}

void StepRunner::norm(const float* weight, size_t begin, size_t end) {
  if (begin == end) return;
  const uint64_t offset = begin * config_.width;
  rms_norm({buffers_.residual + offset, weight, buffers_.normed + offset, end - begin, config_.width, config_.norm_epsilon});
}

void StepRunner::attention_norm(uint32_t layer, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  norm(fixed_ + layout_.layers[layer].attention_norm, mine.begin, mine.end);
  quantize_finely(layout_.layers[layer].q, input_.tokens.size(), mine.begin, mine.end);
}

void StepRunner::ffn_norm(uint32_t layer, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  norm(fixed_ + layout_.layers[layer].ffn_norm, mine.begin, mine.end);
  // Experts get panels of their own once tokens are routed.
  if (config_.experts > 0 && config_.shared_ffn_width == 0) return;
  const uint32_t gate = config_.experts > 0 ? layout_.layers[layer].shared.gate : layout_.layers[layer].ffn.gate;
  quantize(buffers_.normed, buffers_.panel, gate, input_.tokens.size(), mine.begin, mine.end);
}

// The wanted rows move together to the front of `normed`.
void StepRunner::output_norm(const TeamMember& member) {
  const uint64_t width = config_.width;
  const Share mine = share_of(member, input_.logit_tokens.size());
  for (size_t i = mine.begin; i < mine.end; ++i) {
    rms_norm({buffers_.residual + input_.logit_tokens[i] * width, fixed_ + layout_.output_norm, buffers_.normed + i * width, 1, width,
              config_.norm_epsilon});
  }
  quantize_finely(layout_.head, input_.logit_tokens.size(), mine.begin, mine.end);
}

// Each head is a vector of its own, as long as head_dim.
void StepRunner::norm_queries_and_keys(uint32_t layer, size_t begin, size_t end) {
  const LayerLayout& parts = layout_.layers[layer];
  if (parts.query_norm == kNoTensor) return;
  for (size_t t = begin; t < end; ++t) {
    float* const q = buffers_.qkv + t * (config_.attention_width() + 2 * config_.kv_width());
    float* const k = q + config_.attention_width();
    rms_norm({q, fixed_ + parts.query_norm, q, config_.heads, config_.head_dim, config_.norm_epsilon});
    rms_norm({k, fixed_ + parts.key_norm, k, config_.kv_heads, config_.head_dim, config_.norm_epsilon});
  }
}

void StepRunner::rope_and_append(uint32_t layer, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  norm_queries_and_keys(layer, mine.begin, mine.end);
  if (mine.begin < mine.end) rope(args_.turning(mine.begin, mine.end));
  for (const SequenceSlice& slice : input_.slices) {
    const size_t begin = std::max<size_t>(mine.begin, slice.first_token),
                 end = std::min<size_t>(mine.end, slice.first_token + slice.tokens);
    if (begin < end) append_kv(args_.append(layer, slice, begin, end), 0, config_.kv_heads);
  }
}

void StepRunner::attend(uint32_t layer, const TeamMember& member) {
  for (const SequenceSlice& slice : input_.slices) {
    if (slice.first_token > 0) member.barrier();  // the scratch is one
    attention(args_.attention(layer, slice), member);
  }
  member.barrier();
  const Share mine = share_of(member, input_.tokens.size());
  quantize(buffers_.attention, buffers_.panel, layout_.layers[layer].output, input_.tokens.size(), mine.begin, mine.end);
}

void StepRunner::silu(uint64_t ffn_width, uint32_t down, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  if (mine.begin == mine.end) return;
  const uint64_t offset = mine.begin * ffn_width;
  silu_mul({buffers_.gate + offset, buffers_.up + offset, buffers_.gate + offset, (mine.end - mine.begin) * ffn_width});
  quantize(buffers_.gate, buffers_.panel, down, input_.tokens.size(), mine.begin, mine.end);
}

}  // namespace outrigger
