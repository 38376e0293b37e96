// StepShape: what one step of a model reads, keeps and computes, as plain numbers. The planner sees this and never an architecture.
#ifndef OUTRIGGER_STEP_SHAPE_H_
#define OUTRIGGER_STEP_SHAPE_H_

#include <outrigger/export.h>

#include <cstdint>
#include <string>
#include <vector>

namespace outrigger {

/// What keys and values are stored as.
enum class KvType : int32_t {
  kF16 = 0,
  kF32 = 1,   ///< twice the bytes: for the float32 reference
  kQ8_0 = 2,  ///< 17/32 of the bytes: 8-bit codes, a float16 scale for 32 elements of a head; heads must be whole groups of 32
};

/// When a step touches a matrix.
enum class MatrixUse : int32_t {
  kEveryToken = 0,  ///< every step multiplies every token by it: the layers
  kLogits = 1,      ///< only steps that want logits, and only for the tokens that want them: the output head
  kRowLookup = 2,   ///< single rows by token id, never multiplied: an embedding that is not also the head
  kRouted = 3,      ///< a stack of the experts' matrices: each token is multiplied by those of StepShape::used_experts of them
};

/// What a layer's matrices work for. Those of one part of a layer are placed on a device together or not at all.
enum class MatrixPart : int32_t {
  kHost = 0,         ///< only the host computes with it: experts and their routers, lookups
  kAttention = 1,    ///< before and after attention, which is where the layer's keys and values are
  kFeedForward = 2,
  kHead = 3,         ///< the output head
};

/// How the host multiplies with a matrix, as long as a step computes in the fast way; a profile has rates for each.
enum class ProductKind : int32_t {
  kInt8 = 0,       ///< weights of a few bits with int8 activations
  kInt8Twice = 1,  ///< the same with two panels of them, where rounding would show most
  kFloat32 = 2,    ///< weights of any type with float32 activations
  kBf16 = 3,       ///< BF16 weights with bf16 activations
};

OTR_API const char* kv_type_name(KvType type) noexcept;  ///< "f16", "f32", "q8_0"

/// One weight matrix.
struct MatrixShape {
  std::string name;
  uint32_t layer = 0;              ///< counted from 0; the head and the embedding stand after the last layer
  uint32_t window = 0;             ///< matrices with equal numbers share one input and are computed together
  uint64_t rows = 0, columns = 0;  ///< output and input width; of one expert
  uint32_t experts = 1;            ///< matrices of this shape, one after the other; more than one only for kRouted
  uint64_t file_bytes = 0;         ///< read from disk when it streams; all experts'
  uint64_t packed_bytes = 0;       ///< in memory, in the layout the kernels read; all experts'
  uint64_t row_block_bytes = 0;    ///< packed bytes of the 16 rows that cannot be split
  uint64_t row_block_file_bytes = 0;
  uint64_t row_file_bytes = 0;     ///< read from disk to look up one row: all of its row block where the file is packed
  bool is_packed = false;          ///< the file holds it as memory does: what streams needs no packing
  MatrixUse use = MatrixUse::kEveryToken;
  MatrixPart part = MatrixPart::kHost;
  ProductKind product = ProductKind::kInt8;
  bool is_branch = false;          ///< a factor of a low-rank branch: it corrects others of its part
  double used_share = 1;           ///< of a branch, what steps compute with: times count it, memory all of it
  bool adds_to_window = false;     ///< a branch's second factor: the results of the window before are complete only with it
  uint64_t residual_read_bytes = 0;  ///< of its sparse residual, what a token reads on average; 0: it has none
  bool also_rows = false;          ///< a head that is the embedding too: when it streams, rows are looked up in the file

  uint64_t expert_file_bytes() const { return file_bytes / experts; }
  uint64_t expert_packed_bytes() const { return packed_bytes / experts; }
};

/// Bytes of activations, scratch and logits that steps of up to `tokens` need.
struct ActivationCost {
  uint32_t tokens = 0;
  uint64_t bytes = 0;
};

struct StepShape {
  std::vector<MatrixShape> matrices;              ///< in the order a step needs them
  uint32_t used_experts = 0;                      ///< of each layer's, for one token; 0: the model has none
  uint64_t fixed_bytes = 0;                       ///< always resident: norms, biases, tables
  uint64_t residual_bytes = 0;                    ///< of the matrices' sparse residuals: always in host memory
  uint64_t residual_read_bytes_per_token = 0;     ///< that one token reads of them on average, here and there
  /// One token's results of the widest window that branches or residuals correct; 0: none are
  uint64_t correction_row_bytes = 0;
  uint64_t kv_bytes_per_token = 0;                ///< of one session, all layers, as float16
  uint32_t kv_layers = 1;                         ///< layers that keep keys and values, each as many bytes
  /// Pieces of a layer's that grow each on its own, one after the other: a head's keys, or its values
  uint32_t kv_runs = 1;
  bool kv_takes_q8_0 = false;                     ///< heads are whole groups of 32 elements; kv_bytes_per_token is a multiple of 64
  uint32_t kv_granule_tokens = 1;                 ///< a session's cache is a multiple of this many tokens
  uint64_t context_tokens = 0;                    ///< the most the model was made for and the library computes
  std::string context_note;                       ///< why it is less than the model was made for; empty if it is not
  std::vector<ActivationCost> activations;        ///< ascending in tokens: the step sizes on offer, from 1
  uint64_t activation_bytes_per_thread = 0;
  uint64_t logits_row_bytes = 0;                  ///< one token's logits
  /// Activations of a step of three tokens, a tree's level, that multiplies with low-bit copies (Workload::stand_ins)
  uint64_t draft_step_bytes = 0;
  /// One token's activations between two parts: what crosses the link where the next is elsewhere
  uint64_t residual_row_bytes = 0;
  double attention_flops_per_token_per_position = 0;
  /// Of a token's activations besides products and attention (norms, rounding, SwiGLU, keys and values), all layers: as many operations at
  /// attention's rate as take the same time.
  double activation_flops_per_token = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_STEP_SHAPE_H_
