// Model: an opened model file: what it is, its vocabulary, the catalogue of its tensors. No weight is in memory yet.
#ifndef OUTRIGGER_MODEL_H_
#define OUTRIGGER_MODEL_H_

#include <outrigger/export.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>
#include <outrigger/tokenizer.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace outrigger {

/// How reads reach the disk: past the page cache where the file system allows it (kAuto), always or an error (kOn), never (kOff).
enum class DiskDirect : int32_t { kAuto = 0, kOn = 1, kOff = 2 };

struct ModelOptions {
  DiskDirect disk_direct = DiskDirect::kAuto;
};

/// One tensor of the file, as the file describes it.
struct TensorInfo {
  std::string name;
  std::string type;               ///< "Q4_1", "F32"
  std::vector<uint64_t> shape;    ///< the file's order: shape[0] is the length of a row
  uint64_t bytes = 0;
  uint64_t file_offset = 0;       ///< of its first byte in `file`
  std::string file;               ///< the file that holds it: the model's, or one of its directory
  bool is_packed = false;         ///< held as the kernels read it: `type` is what was packed, `bytes` those of its padded row blocks
};

/// What a person asks about a model file. Everything comes from the header.
struct ModelInfo {
  std::string file;               ///< the path it was opened from, a directory's without the file's name, or "memory"
  std::string name;               ///< general.name, may be empty
  std::string architecture;       ///< "llama", "qwen2"; empty for a vocabulary-only file without one
  uint64_t parameters = 0;        ///< elements of all tensors
  uint64_t bytes = 0;             ///< of the file, or of a directory's weight files
  double bits_per_weight = 0;     ///< tensor bytes * 8 / parameters; 0 without tensors
  uint64_t context_tokens = 0;    ///< what it was trained for, or less where longer ones are not computed (a sliding window)
  uint32_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  uint64_t width = 0, ffn_width = 0;
  uint64_t vocabulary_tokens = 0; ///< of the file's vocabulary; without one, of the embedding, if it can be run
  std::string tokenizer;          ///< "bpe (smollm)"; empty if the file has none that can be used
  std::string chat_template;      ///< recognised name, or "unrecognised", or "" if the file has none
  bool is_packed = false;         ///< pack_model wrote it: what streams needs no packing
  bool can_run = false;
  std::string why_not;            ///< when it cannot: one line that names the reason
};

/// Immutable and cheap to copy; copies share one open file, and any number of threads, engines and sessions may use one at once.
class OTR_API Model {
 public:
  struct Impl;

  /// Opens a GGUF file, or a Hugging Face directory (its path, or that of its config.json, model.safetensors or
  /// model.safetensors.index.json), and reads its header, vocabulary and catalogue. Succeeds for a well-formed file that cannot be run
  /// (another architecture, a weight type without kernels, a vocabulary alone): info().can_run says so and Engine::open refuses it with the
  /// reason.
  /// Cost: proportional to the header; about 30 ms and 4 MiB for 50,000 tokens.
  /// Errors: kNotFound, kCorruptFile (offset, key or tensor), kUnsupported (format version, by name), kIo, kOutOfMemory.
  static Result<Model> open(const std::string& path, const ModelOptions& options = {});
  /// The same from a caller's buffer, which must outlive every copy of the model and not change.
  static Result<Model> open_memory(std::span<const std::byte> bytes);

  const ModelInfo& info() const;
  /// In file order.
  std::vector<TensorInfo> tensors() const;
  /// Errors: kUnsupported when the file has no usable tokenizer.
  Result<Tokenizer> tokenizer() const;
  /// What a step reads and computes, for the planner. Errors: kUnsupported with the reason when the model cannot run.
  Result<StepShape> step_shape() const;

  explicit Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  const std::shared_ptr<const Impl>& impl() const { return impl_; }  ///< for the library's own parts

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_MODEL_H_
