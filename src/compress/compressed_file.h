// CompressedFile: the GGUF file of a compressed model, written from front to back.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESSED_FILE_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESSED_FILE_H_

#include <outrigger/status.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "src/compress/low_rank.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/quantiser.h"
#include "src/compress/selective_residual.h"
#include "src/io/atomic_file.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// First what stays as it is, then the backbone in the order of a step, then the branches. Experts are one stack [columns, rows, experts]
/// for each kind of matrix and layer, also where the model has a tensor for each. Sizes are known beforehand, so that a disk without room
/// is found at once. Threads: one.
class CompressedFile {
 public:
  /// Reserves the file and writes its header and all that stays. Preconditions: the model has a layout; `plans` are by matrix of the
  /// layout. Errors: kIo.
  static Result<CompressedFile> create(const Model::Impl& model, const std::string& path, std::span<const MatrixPlan> plans,
                                       int factor_bits);

  /// Of the planned matrices in order, then branches and residuals of those that have them in order.
  Status write_backbone(uint32_t matrix, const LowBitMatrix& made);
  Status write_branch(const LowRankBranch& branch);
  Status write_residual(const SelectiveResidual& residual);
  /// A matrix's codes once more. Precondition: they were written, and have that size. Errors: kIo.
  Status read_backbone(uint32_t matrix, std::span<std::byte> bytes) const { return out_.read(places_[matrix], bytes); }
  /// Other codes in the place of a matrix's. Precondition: they were written, and have that size. Errors: kIo.
  Status rewrite_backbone(uint32_t matrix, std::span<const std::byte> bytes) { return out_.rewrite(places_[matrix], bytes); }
  /// Other bytes in the place of a copied tensor's, which the model's file has at `file_offset`. Precondition: as many. Errors: kIo.
  Status rewrite_copy(uint64_t file_offset, std::span<const std::byte> bytes) { return out_.rewrite(copies_.at(file_offset), bytes); }
  /// Precondition: everything was written. Errors: kIo; the file does not appear.
  Status commit() { return out_.commit(); }

  uint64_t bytes() const { return bytes_; }
  /// Where it stands meanwhile; "" where it has no name.
  const std::string& temporary() const { return out_.temporary(); }

 private:
  CompressedFile(AtomicFile out, uint64_t bytes, size_t matrices) : out_(std::move(out)), bytes_(bytes), places_(matrices) {}
  Status write(std::span<const std::byte> bytes);
  /// `bytes` and what fills them up to the next tensor's place.
  Status write_tensor(std::span<const std::byte> bytes);

  AtomicFile out_;
  uint64_t bytes_;
  uint64_t written_bytes_ = 0;
  std::vector<uint64_t> places_;         ///< by matrix of the layout; of those whose backbone was written
  std::map<uint64_t, uint64_t> copies_;  ///< where what the model's file has at the first stands
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESSED_FILE_H_
