// The names of operations, and their addresses: what each reads and writes, how many bytes of it, and at which alignment.
#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/device/op_check.h"

namespace outrigger {
namespace {

CheckedSize floats(CheckedSize count) { return count * CheckedSize(sizeof(float)); }
CheckedSize rows_of(size_t rows, size_t stride, CheckedSize width) { return floats(CheckedSize(rows - 1) * CheckedSize(stride) + width); }

constexpr size_t kFloatAlignment = alignof(float);
constexpr size_t kVectorAlignment = 64;
constexpr size_t kCacheAlignment = 32;  // a layer is whole blocks of kKvInterleave positions, each a multiple of that

class Translation {
 public:
  Translation(const AllocationTable& memory, const AllocationTable& pinned, uint64_t scratch_bytes, const char* op)
      : memory_(memory), pinned_(pinned), scratch_bytes_(scratch_bytes), op_(op) {}

  template <typename T>
  void place(T*& address, CheckedSize bytes, size_t alignment, const char* name) {
    place_in(memory_, address, bytes, alignment, name);
  }
  /// In the host's memory that copies can start from.
  template <typename T>
  void place_pinned(T*& address, CheckedSize bytes, size_t alignment, const char* name) {
    place_in(pinned_, address, bytes, alignment, name);
  }

  uint64_t scratch_bytes() const { return scratch_bytes_; }
  Status status() { return std::move(status_); }

 private:
  template <typename T>
  void place_in(const AllocationTable& memory, T*& address, CheckedSize bytes, size_t alignment, const char* name) {
    if (!status_.is_ok()) return;
    std::byte* const reachable = memory.find(address, bytes);
    const bool is_aligned = reinterpret_cast<uintptr_t>(address) % alignment == 0;
    if (reachable != nullptr && is_aligned) {
      address = reinterpret_cast<T*>(reachable);
      return;
    }
    const std::string size = bytes.value() ? format_bytes(*bytes.value()) : "more than 16 EiB";
    status_ = {StatusCode::kDevice, is_aligned ? formatted("{}: illegal address: {} at {} of {} are not inside one allocation", op_, name,
                                                           static_cast<const void*>(address), size)
                                               : formatted("{}: misaligned address: {} at {}, need a multiple of {}", op_, name,
                                                           static_cast<const void*>(address), alignment)};
  }

  const AllocationTable& memory_;
  const AllocationTable& pinned_;
  uint64_t scratch_bytes_;
  const char* op_;
  Status status_;
};

void translate(Translation& t, MatmulArgs& args) {
  t.place(args.weights, packed_bytes(args.kind, args.rows, args.stored_columns == 0 ? args.columns : args.stored_columns), kPackAlignment,
          "weights");
  if (args.panel == nullptr) {
    t.place(args.src, rows_of(args.tokens, args.src_stride, args.columns), kFloatAlignment, "src");
  } else {
    const bool is_int8 = takes_int8_activations(args.kind);
    const uint64_t bytes = is_int8 ? activation_panel_bytes(args.tokens, args.columns) : bf16_panel_bytes(args.tokens, args.columns);
    t.place(args.panel, bytes, kFloatAlignment, "panel");
  }
  t.place(args.dst, rows_of(args.tokens, args.dst_stride, args.rows), kFloatAlignment, "dst");
}

void translate(Translation& t, QuantizeArgs& args) {
  t.place(args.src, rows_of(args.tokens, args.src_stride, args.width), kFloatAlignment, "src");
  t.place(args.panel, activation_panel_bytes(args.tokens, args.width), kFloatAlignment, "panel");
}

void translate(Translation& t, RemainderArgs& args) {
  translate(t, args.of);
  t.place(args.remainder, rows_of(args.of.tokens, args.of.src_stride, args.of.width), kFloatAlignment, "remainder");
}

void translate(Translation& t, RoundArgs& args) {
  t.place(args.of.src, rows_of(args.tokens, args.of.src_stride, args.of.width), kFloatAlignment, "src");
  t.place(args.of.panel, bf16_panel_bytes(args.tokens, args.of.width), kFloatAlignment, "panel");
}

void translate(Translation& t, RmsNormArgs& args) {
  t.place(args.src, rows_of(args.tokens, args.width, args.width), kFloatAlignment, "src");
  t.place(args.weight, floats(args.width), kFloatAlignment, "weight");
  t.place(args.dst, rows_of(args.tokens, args.width, args.width), kFloatAlignment, "dst");
}

void translate(Translation& t, RopeArgs& args) {
  t.place(args.x, rows_of(args.tokens, args.stride, CheckedSize(args.heads) * CheckedSize(args.head_dim)), kFloatAlignment, "x");
  t.place(args.cos_sin, rows_of(args.tokens, args.rotary_dim, args.rotary_dim), kFloatAlignment, "cos_sin");
}

template <typename Args>
CheckedSize cache_bytes(const Args& args) {
  return CheckedSize(args.kv_heads) * CheckedSize(args.capacity / kKvInterleave) * CheckedSize(kv_block_bytes(args.type, args.head_dim));
}

void translate(Translation& t, AppendKvArgs& args) {
  const CheckedSize width = CheckedSize(args.kv_heads) * CheckedSize(args.head_dim);
  t.place(args.k, rows_of(args.tokens, args.k_stride, width), kFloatAlignment, "k");
  t.place(args.v, rows_of(args.tokens, args.v_stride, width), kFloatAlignment, "v");
  t.place(args.k_cache, cache_bytes(args), kCacheAlignment, "k_cache");
  t.place(args.v_cache, cache_bytes(args), kCacheAlignment, "v_cache");
}

void translate(Translation& t, AttentionArgs& args) {
  const CheckedSize width = CheckedSize(args.heads) * CheckedSize(args.head_dim);
  t.place(args.q, rows_of(args.tokens, args.q_stride, width), kFloatAlignment, "q");
  t.place(args.k_cache, cache_bytes(args), kCacheAlignment, "k_cache");
  t.place(args.v_cache, cache_bytes(args), kCacheAlignment, "v_cache");
  t.place(args.dst, rows_of(args.tokens, args.dst_stride, width), kFloatAlignment, "dst");
  t.place(args.scratch, t.scratch_bytes(), kVectorAlignment, "scratch");
  if (args.tree != nullptr) t.place(args.tree, sizeof(TokenTree), alignof(TokenTree), "tree");
}

void translate(Translation& t, SiluMulArgs& args) {
  t.place(args.gate, floats(args.count), kFloatAlignment, "gate");
  t.place(args.up, floats(args.count), kFloatAlignment, "up");
  t.place(args.dst, floats(args.count), kFloatAlignment, "dst");
}

void translate(Translation& t, AddBiasArgs& args) {
  t.place(args.bias, floats(args.rows), kFloatAlignment, "bias");
  t.place(args.dst, rows_of(args.tokens, args.dst_stride, args.rows), kFloatAlignment, "dst");
}

void translate(Translation& t, AddArgs& args) {
  t.place(args.src, rows_of(args.tokens, args.src_stride, args.width), kFloatAlignment, "src");
  t.place(args.dst, rows_of(args.tokens, args.dst_stride, args.width), kFloatAlignment, "dst");
}

void translate(Translation& t, CopyArgs& args) {
  t.place(args.src, args.bytes, 1, "src");
  t.place(args.dst, args.bytes, 1, "dst");
}

void translate(Translation& t, MoveKvArgs& args) {
  t.place(args.cache, CheckedSize(2) * CheckedSize(args.layers) * cache_bytes(args), kCacheAlignment, "cache");
}

void translate(Translation& t, SendArgs& args) {
  t.place(args.src, floats(args.count), kFloatAlignment, "src");
  t.place_pinned(args.words, CheckedSize(args.count) * CheckedSize(sizeof(HandoffWord)), alignof(HandoffWord), "words");
}

void translate(Translation& t, ReceiveArgs& args) {
  t.place_pinned(args.words, CheckedSize(args.count) * CheckedSize(sizeof(HandoffWord)), alignof(HandoffWord), "words");
  t.place_pinned(args.closed, sizeof(HandoffWord), alignof(HandoffWord), "closed");
  t.place(args.dst, floats(args.count), kFloatAlignment, "dst");
}

}  // namespace

const char* device_op_name(DeviceOpKind kind) {
  constexpr const char* kNames[kDeviceOpKinds] = {"matmul", "quantize",  "remainder", "round",    "rms_norm",
                                                  "rope",   "append_kv", "attention", "silu_mul", "add_bias",
                                                  "add",    "copy",      "move_kv",   "send",     "receive"};
  return kNames[static_cast<size_t>(kind)];
}

Status translate_op(const AllocationTable& memory, const AllocationTable& pinned, uint64_t scratch_bytes, DeviceOp* op) {
  Translation translation(memory, pinned, scratch_bytes, device_op_name(kind_of(*op)));
  std::visit([&translation](auto& args) { translate(translation, args); }, *op);
  return translation.status();
}

}  // namespace outrigger
