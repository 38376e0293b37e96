// The dimensions of operations.
#include "src/device/op_check.h"

#include <algorithm>
#include <string_view>

#include "src/base/formatted.h"
#include "src/tensor/packed_layout.h"

namespace outrigger {
namespace {

// So that the product of two dimensions and an element's bytes is far from 2^64; products of three are computed with care.
constexpr uint64_t kMostItems = uint64_t{1} << 28;

// The first thing that is wrong. Makes no string unless something is.
class Check {
 public:
  explicit Check(const char* op) : op_(op) {}
  Check& need(bool holds, const char* field, uint64_t got, std::string_view what) {
    if (!holds && status_.is_ok()) status_ = {StatusCode::kInvalidArgument, formatted("{}: {}: got {}, need {}", op_, field, got, what)};
    return *this;
  }
  Check& size(const char* field, uint64_t got) { return need(got >= 1 && got <= kMostItems, field, got, "1 to 2^28"); }
  Check& stride(const char* field, uint64_t got, uint64_t width) { return need(got >= width, field, got, "at least a row's width"); }
  Status status() { return std::move(status_); }

 private:
  const char* op_;
  Status status_;
};

Status check(const MatmulArgs& args) {
  Check check("matmul");
  check.need(args.kind <= kLastPackedKind, "kind", static_cast<uint64_t>(args.kind), "a packed kind");
  check.size("rows", args.rows).size("columns", args.columns).size("tokens", args.tokens);
  check.stride("dst_stride", args.dst_stride, args.rows);
  if (args.stored_columns != 0)
    check.size("stored_columns", args.stored_columns)
        .need(args.stored_columns >= args.columns, "stored_columns", args.stored_columns, "at least columns");
  if (args.panel == nullptr) check.stride("src_stride", args.src_stride, args.columns);
  if (const GroupLayout* layout = find_group_layout(args.kind)) {
    check.need(args.columns % traits(layout->type).block_elements == 0, "columns", args.columns, "whole blocks of the weights' type");
  }
  const bool takes_panel = takes_int8_activations(args.kind) || takes_bf16_activations(args.kind);
  check.need(args.panel == nullptr || takes_panel, "kind", static_cast<uint64_t>(args.kind), "one that takes a panel, or no panel");
  return check.status();
}

Status check_panel(const char* op, const QuantizeArgs& args) {
  return Check(op)
      .size("tokens", args.tokens)
      .size("width", args.width)
      .need(args.width % kGroup == 0, "width", args.width, "a multiple of 32")
      .stride("src_stride", args.src_stride, args.width)
      .status();
}
Status check(const QuantizeArgs& args) { return check_panel("quantize", args); }
Status check(const RemainderArgs& args) { return check_panel("remainder", args.of); }

Status check(const RoundArgs& args) {
  return Check("round")
      .size("tokens", args.tokens)
      .size("width", args.of.width)
      .stride("src_stride", args.of.src_stride, args.of.width)
      .status();
}

Status check(const RmsNormArgs& args) { return Check("rms_norm").size("tokens", args.tokens).size("width", args.width).status(); }

Status check(const RopeArgs& args) {
  Check check("rope");
  check.size("tokens", args.tokens).size("heads", args.heads).size("head_dim", args.head_dim);
  check.need(args.rotary_dim >= 2 && args.rotary_dim % 2 == 0 && args.rotary_dim <= args.head_dim, "rotary_dim", args.rotary_dim,
             "an even number from 2 to head_dim");
  check.stride("stride", args.stride, args.heads * args.head_dim);
  check.need(args.style <= RopeStyle::kHalves, "style", static_cast<uint64_t>(args.style), "a style");
  return check.status();
}

void check_shape(Check& check, KvType type, size_t kv_heads, size_t head_dim, size_t capacity) {
  check.need(type == KvType::kF16 || type == KvType::kF32 || type == KvType::kQ8_0, "type", static_cast<uint64_t>(type),
             "a type of the cache");
  check.size("kv_heads", kv_heads).size("head_dim", head_dim).size("capacity", capacity);
  check.need(kv_type_fits(type, head_dim), "head_dim", head_dim, "a multiple of 32");
  check.need(capacity % kKvInterleave == 0, "capacity", capacity, "a multiple of 16");
}

void check_cache(Check& check, KvType type, size_t kv_heads, size_t head_dim, size_t capacity, size_t first_position, size_t tokens) {
  check_shape(check, type, kv_heads, head_dim, capacity);
  check.size("tokens", tokens);
  check.need(first_position <= capacity && tokens <= capacity - first_position, "first_position", first_position, "room for the tokens");
}

Status check(const AppendKvArgs& args) {
  Check check("append_kv");
  check_cache(check, args.type, args.kv_heads, args.head_dim, args.capacity, args.first_position, args.tokens);
  check.stride("k_stride", args.k_stride, args.kv_heads * args.head_dim).stride("v_stride", args.v_stride, args.kv_heads * args.head_dim);
  return check.status();
}

Status check(const AttentionArgs& args) {
  Check check("attention");
  check_cache(check, args.type, args.kv_heads, args.head_dim, args.capacity, args.first_position, args.tokens);
  check.size("heads", args.heads);
  check.need(args.kv_heads == 0 || args.heads % args.kv_heads == 0, "heads", args.heads, "a multiple of kv_heads");
  if (args.tree != nullptr) {
    check.need(args.tokens <= kMostTreeTokens && args.tree_begin <= kMostTreeTokens - args.tokens, "tree_begin", args.tree_begin,
               "tokens of a tree of 32");
    const size_t end = args.tree_begin + args.tokens;
    check.need(args.first_position <= args.capacity && end <= args.capacity - args.first_position, "first_position", args.first_position,
               "room for the tree");
  }
  check.stride("q_stride", args.q_stride, args.heads * args.head_dim).stride("dst_stride", args.dst_stride, args.heads * args.head_dim);
  return check.status();
}

Status check(const SiluMulArgs& args) { return Check("silu_mul").need(args.count >= 1, "count", args.count, "at least 1").status(); }

Status check(const AddBiasArgs& args) {
  return Check("add_bias").size("rows", args.rows).size("tokens", args.tokens).stride("dst_stride", args.dst_stride, args.rows).status();
}

Status check(const AddArgs& args) {
  Check check("add");
  check.size("tokens", args.tokens).size("width", args.width);
  return check.stride("src_stride", args.src_stride, args.width).stride("dst_stride", args.dst_stride, args.width).status();
}

Status check(const CopyArgs& args) { return Check("copy").need(args.bytes >= 1, "bytes", args.bytes, "at least 1").status(); }

Status check(const MoveKvArgs& args) {
  Check check("move_kv");
  check.size("layers", args.layers);
  check_shape(check, args.type, args.kv_heads, args.head_dim, args.capacity);
  check.need(args.count >= 1 && args.count <= kMostTreeTokens, "count", args.count, "1 to 32");
  for (size_t i = 0; i < std::min(args.count, kMostTreeTokens); ++i) {
    check.need(args.from[i] >= i && (i == 0 || args.from[i] > args.from[i - 1]), "from", args.from[i], "places that ascend");
    check.need(args.first_place < args.capacity && args.from[i] < args.capacity - args.first_place, "first_place", args.first_place,
               "room for what moves");
  }
  return check.status();
}

Status check_handoff(const char* op, uint64_t count, uint64_t number) {
  return Check(op).size("count", count).need(number >= 1 && number <= UINT32_MAX, "number", number, "1 to 2^32 - 1").status();
}
Status check(const SendArgs& args) { return check_handoff("send", args.count, args.number); }
Status check(const ReceiveArgs& args) { return check_handoff("receive", args.count, args.number); }

}  // namespace

Status check_op(const DeviceOp& op) {
  return std::visit([](const auto& args) { return check(args); }, op);
}

}  // namespace outrigger
