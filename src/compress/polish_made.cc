// Polishing what was just compressed: factors as float32, and back as they are stored.
#include "src/compress/polish_made.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <utility>

#include "src/base/macros.h"
#include "src/base/thread_team.h"
#include "src/compress/compress_budget.h"
#include "src/forward/dense_layer.h"
#include "src/tensor/dequantize.h"
#include "src/training/block_polish.h"
#include "src/training/polish.h"
#include "src/training/polish_task.h"

namespace outrigger {
namespace {

// The bytes that training may take; 0: no limit.
uint64_t training_budget(const CompressOptions& options) { return options.host_bytes; }

uint32_t threads_of(const CompressOptions& options) { return options.threads > 0 ? options.threads : usable_cores(); }

// An eighth of a short text is held out.
PolishOptions polish_options(const CompressOptions& options, size_t tokens) {
  PolishOptions result;
  result.steps = options.polish_steps;
  result.moves_branches = trains_branches(options);
  result.held_out_chunks = static_cast<uint32_t>(std::clamp<size_t>(tokens / options.chunk_tokens / 8, 1, result.held_out_chunks));
  return result;
}

Result<LeasedVector<float>> decode(DType type, const LeasedVector<std::byte>& bytes, uint64_t elements) {
  LeasedVector<float> values(elements);
  OTR_TRY(dequantize(type, bytes.data(), values.data(), values.size()));
  return values;
}

Result<TrainedBranch> as_floats(uint32_t matrix, const LowRankBranch& branch) {
  TrainedBranch trained{matrix, branch.rank, {}, {}};
  OTR_ASSIGN(trained.a, decode(branch.type, branch.a, branch.rank * branch.columns));
  OTR_ASSIGN(trained.b, decode(branch.type, branch.b, branch.rows * branch.rank));
  return trained;
}

/// The codes of trained factors.
Result<LowRankBranch> as_codes(const TrainedBranch& trained, const LowRankBranch& like) {
  LowRankBranch rounded{like.rows, like.columns, like.rank, like.type, {}, {}, like.importance, {}, 0, 0};
  OTR_TRY(set_factors(trained.a, trained.b, &rounded));
  return rounded;
}

/// Scales and minima of a matrix's blocks, in their order.
struct BlockHeads {
  uint32_t matrix = 0;
  LeasedVector<std::byte> bytes;
};

BlockHeads heads_of(const MatrixCodes& codes) {
  const size_t block_bytes = traits(codes.type).block_bytes, blocks = codes.bytes.size() / block_bytes;
  BlockHeads heads{codes.matrix, LeasedVector<std::byte>(kBlockHeadBytes * blocks)};
  for (size_t i = 0; i < blocks; ++i)
    std::memcpy(heads.bytes.data() + i * kBlockHeadBytes, codes.bytes.data() + i * block_bytes, kBlockHeadBytes);
  return heads;
}

Status write_heads(const BlockHeads& heads, DType type, CompressedFile* file) {
  const size_t block_bytes = traits(type).block_bytes, blocks = heads.bytes.size() / kBlockHeadBytes;
  LeasedVector<std::byte> codes(blocks * block_bytes);
  OTR_TRY(file->read_backbone(heads.matrix, codes));
  for (size_t i = 0; i < blocks; ++i)
    std::memcpy(codes.data() + i * block_bytes, heads.bytes.data() + i * kBlockHeadBytes, kBlockHeadBytes);
  return file->rewrite_backbone(heads.matrix, codes);
}

/// What training made.
struct Trained {
  std::vector<std::pair<uint32_t, LowRankBranch>> branches;
  std::vector<BlockHeads> heads;
  std::vector<TrainedNorm> norms;
};

class MadePolisher {
 public:
  MadePolisher(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, std::span<const MatrixPlan> plans,
               const CompressedFile& file, const std::vector<CompressedMatrix>& made)
      : model_(model), layout_(*model.layout), tokens_(tokens), options_(options), plans_(plans), file_(file), made_(made) {}

  Result<PolishReport> run(PolishScope scope, const PolishWatch& watch, Trained* trained) const {
    OTR_ASSIGN(const std::unique_ptr<ThreadTeam> team, ThreadTeam::create(threads_of(options_)));
    PolishOptions polish = polish_options(options_, tokens_.size());
    polish.round = [this](TrainedBranch* branch) -> Status {
      OTR_ASSIGN(const LowRankBranch rounded, as_codes(*branch, made_[branch->matrix].branch));
      OTR_TRY(dequantize(rounded.type, rounded.a.data(), branch->a.data(), branch->a.size()));
      return dequantize(rounded.type, rounded.b.data(), branch->b.data(), branch->b.size());
    };
    const MatrixReader student = [this](uint32_t matrix) { return student_matrix(matrix); };
    const auto keep = [&](const std::vector<TrainedBranch>& branches) -> Status {
      for (const TrainedBranch& branch : branches) {
        OTR_ASSIGN(LowRankBranch codes, as_codes(branch, made_[branch.matrix].branch));
        trained->branches.emplace_back(branch.matrix, std::move(codes));
      }
      return {};
    };
    const auto keep_backbone = [trained](TrainedBackbone backbone) -> Status {
      for (MatrixCodes& codes : backbone.codes) {
        trained->heads.push_back(heads_of(codes));
        codes.bytes = LeasedVector<std::byte>();
      }
      std::move(backbone.norms.begin(), backbone.norms.end(), std::back_inserter(trained->norms));
      return {};
    };
    if (scope == PolishScope::kBlock) {
      polish.learning_rate = kBlockLearningRate;
      polish.scale_rate = polish.norm_rate = kBlockScaleRate;
      BlockParts parts{[this](uint32_t layer) { return branches_of(matrices_of(layout_.layers[layer])); }, keep, {}, {}};
      if (trains_backbone(options_)) {
        parts.read_codes = [this](uint32_t layer) { return codes_of(matrices_of(layout_.layers[layer])); };
        parts.keep_backbone = keep_backbone;
      }
      return polish_blocks(model_, student, tokens_, options_.chunk_tokens, polish, *team, watch, parts);
    }
    OTR_ASSIGN(std::vector<TrainedBranch> branches, branches_of(matrices_of_layers(layout_)));
    TrainedBackbone backbone;
    if (trains_backbone(options_)) {
      OTR_ASSIGN(backbone.codes, codes_of(matrices_of_layers(layout_)));
    }
    OTR_ASSIGN(PolishReport report, polish_branches(model_, student, tokens_, options_.chunk_tokens, polish, *team, watch, &branches,
                                                    trains_backbone(options_) ? &backbone : nullptr));
    if (!report.is_kept) return report;
    if (polish.moves_branches) OTR_TRY(keep(branches));
    OTR_TRY(keep_backbone(std::move(backbone)));
    return report;
  }

 private:
  uint64_t backbone_bytes(uint32_t matrix) const {
    return layout_.weights[matrix].rows * *row_bytes(made_[matrix].backbone.type, layout_.weights[matrix].columns);
  }

  // A residual is what a matrix lacks as it was made: its scales stay.
  Result<std::vector<MatrixCodes>> codes_of(std::span<const uint32_t> matrices) const {
    std::vector<MatrixCodes> all;
    for (const uint32_t matrix : matrices) {
      if (made_[matrix].residual.share > 0) continue;
      MatrixCodes& codes =
          all.emplace_back(MatrixCodes{matrix, made_[matrix].backbone.type, LeasedVector<std::byte>(backbone_bytes(matrix))});
      OTR_TRY(file_.read_backbone(matrix, codes.bytes));
    }
    return all;
  }

  Result<std::vector<TrainedBranch>> branches_of(std::span<const uint32_t> matrices) const {
    std::vector<TrainedBranch> branches;
    for (const uint32_t matrix : matrices) {
      if (made_[matrix].branch.rank == 0) continue;
      OTR_ASSIGN(TrainedBranch branch, as_floats(matrix, made_[matrix].branch));
      branches.push_back(std::move(branch));
    }
    return branches;
  }

  // Which columns of a residual a token reads has no gradient: on average it is as if all were, each by the part that reading restores.
  Result<LeasedVector<float>> student_matrix(uint32_t matrix) const {
    const LowBitMatrix& backbone = made_[matrix].backbone;
    const SelectiveResidual& residual = made_[matrix].residual;
    const uint64_t rows = layout_.weights[matrix].rows, columns = layout_.weights[matrix].columns;
    LeasedVector<float> values;
    {
      LeasedVector<std::byte> codes(backbone_bytes(matrix));
      OTR_TRY(file_.read_backbone(matrix, codes));
      OTR_ASSIGN(values, decode(backbone.type, codes, rows * columns));
    }
    if (residual.share == 0) return values;
    OTR_ASSIGN(const LeasedVector<float> lost, decode(residual.columns.type, residual.columns.bytes, rows * columns));
    const auto part = static_cast<float>(plans_[matrix].restored > 0 ? plans_[matrix].restored : residual.share);
    for (uint64_t c = 0; c < columns; ++c) {
      for (uint64_t r = 0; r < rows; ++r) values[r * columns + c] += part * lost[c * rows + r];
    }
    return values;
  }

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const std::span<const Token> tokens_;
  const CompressOptions& options_;
  const std::span<const MatrixPlan> plans_;
  const CompressedFile& file_;
  const std::vector<CompressedMatrix>& made_;
};

}  // namespace

Result<PolishPlan> plan_polish(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                               std::span<const MatrixPlan> plans) {
  const PolishOptions polish = polish_options(options, tokens.size());
  OTR_ASSIGN(const PolishTask task, make_polish_task(*model.layout, tokens, options.chunk_tokens, polish));
  const PolishSizes sizes{
      plans, options.factor_bits, task.pieces.size(), task.held_out, task.piece_tokens, threads_of(options), trains_backbone(options)};
  return choose_polish_scope(*model.layout, sizes, options.polish_scope, training_budget(options));
}

Status polish_made(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                   std::span<const MatrixPlan> plans, const PolishPlan& polish, const PolishWatch& watch, CompressedFile* file,
                   std::vector<CompressedMatrix>* made, CompressReport* result) {
  const LeaseScope scope(MemoryUse::kTraining);
  Trained trained;
  OTR_ASSIGN(PolishReport report, MadePolisher(model, tokens, options, plans, *file, *made).run(polish.scope, watch, &trained));
  result->polish_scope = polish.scope;
  result->polish_bytes = polish.bytes;
  result->polish_kl_before = report.held_out_before;
  result->polish_kl_after = report.held_out_after;
  result->polish_losses = std::move(report.losses);
  result->polish_layers = std::move(report.layers);
  result->is_polish_kept = report.is_kept;
  if (!report.is_kept) return {};
  for (const BlockHeads& heads : trained.heads) OTR_TRY(write_heads(heads, (*made)[heads.matrix].backbone.type, file));
  for (const TrainedNorm& norm : trained.norms) {
    OTR_TRY(file->rewrite_copy(norm.file_offset, std::as_bytes(std::span(norm.weights))));
  }
  for (auto& [matrix, codes] : trained.branches) {
    LowRankBranch& branch = (*made)[matrix].branch;
    branch.a = std::move(codes.a);
    branch.b = std::move(codes.b);
  }
  return {};
}

}  // namespace outrigger
