// Compressing: a model in two, three or four bits, chosen by what the layers' inputs are on a text.
#ifndef OUTRIGGER_COMPRESS_H_
#define OUTRIGGER_COMPRESS_H_

#include <outrigger/cancel.h>
#include <outrigger/export.h>
#include <outrigger/machine_profile.h>
#include <outrigger/model.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace outrigger {

/// How a budget for branches is shared out.
enum class BranchAllocation : int32_t {
  /// By how much nearer the model comes, measured by kind of matrix and by layer, and by how much of that so many components restore
  kMeasured = 0,
  kUniform = 1,   ///< the same rank, or share, for all
  kHcinfer = 2,   ///< by that paper's score of matrices and layers, for comparison; low-rank branches only
};

/// What a matrix may be corrected by.
enum class BranchForm : int32_t {
  /// Each matrix by whichever brings the model nearer within the budgets; where nothing is measured, all by residuals if these fit
  kAuto = 0,
  kLowRank = 1,  ///< low-rank branches, all of which a token reads
  kSparse = 2,   ///< residuals: what a matrix lost in four bits, of which each token reads the columns that matter most to it
};

/// What a weight's code stands for, in steps of its scale.
enum class WeightLevels : int32_t {
  kUniform = 0,   ///< equal steps; exported files have the same values
  kCodebook = 1,  ///< a table's, closer together in the middle, from either end: the same bytes, and less is lost
};

enum class BranchMethod : int32_t {
  kWeighed = 0,  ///< the best branch for the inputs the matrix has
  /// Plain singular vectors of what the matrix lost, fitted once, for comparison; without budgets with that paper's ranks by kind of matrix
  kHcinfer = 1,
};

/// What training has in memory at once, and so what it can see.
enum class PolishScope : int32_t {
  kAuto = 0,      ///< end to end where host_bytes has room for it, else block by block
  kEndToEnd = 1,  ///< the whole model as float32: all factors together, for what the whole model says
  kBlock = 2,     ///< one layer as float32: a layer's factors for what comes out of it, one layer after the other
};

/// What training moves.
enum class PolishTarget : int32_t {
  kBranches = 0,  ///< the factors of low-rank branches
  /// The scales and minima of the matrices in few bits that have no residual, and the norms that the model has as float32: no byte more,
  /// here or when it runs
  kBackbone = 1,
  kBoth = 2,      ///< all of them together
};

/// What a call that goes on from an interrupted one begins with.
struct CompressResumption {
  /// The model is still compressed without branches, to be measured; false: that is done, where it was to be
  bool is_surveying = false;
  uint32_t layers_done = 0, layers = 0;      ///< that are finished, of how many
};

struct CompressOptions {
  /// Of a weight's code, 2 to 4; a scale and a minimum for group_weights of them take half a bit more, or a quarter
  int bits = 4;
  /// Above 0, instead of `bits`: 2.5 to 4.5 stored bits a weight on average (2.25 to 4.25 with groups of 128), matrices having 2, 3 or 4 by
  /// measured loss
  double mixed_bits = 0;
  WeightLevels levels = WeightLevels::kUniform;
  uint32_t group_weights = 64;   ///< that share a scale and a minimum, 64 or 128; rows are a multiple of it
  /// At most so many for what corrects the matrices, low-rank branches and residuals; 0: as many as branch_read_bytes needs
  uint64_t branch_bytes = 0;
  /// A token reads at most so many of them on average, of experts those that it takes; 0: no limit. Both 0: nothing is corrected
  uint64_t branch_read_bytes = 0;
  /// What a byte of a residual counts as in branch_read_bytes; 3.5 where time is meant, which columns here and there take more of
  double scattered_read_cost = 1;
  /// Above 0, instead of branch_read_bytes: a token may take so much longer for them on the host of `machine`, the model being in its
  /// memory; 0.05 for a twentieth
  double max_slowdown = 0;
  std::optional<MachineProfile> machine;  ///< needed for max_slowdown
  BranchForm form = BranchForm::kAuto;
  BranchAllocation allocation = BranchAllocation::kMeasured;
  BranchMethod method = BranchMethod::kWeighed;
  int factor_bits = 4;           ///< of a branch's factors, 4 or 8; a scale for 32 elements takes half a bit more
  uint32_t polish_steps = 0;     ///< of training, block by block of each layer's; 0: none; 50 is a good number
  PolishTarget polish_target = PolishTarget::kBranches;
  PolishScope polish_scope = PolishScope::kAuto;
  /// How often a matrix with a branch is quantised anew, less what the branch restores, and the branch fitted to that; the best is kept
  uint32_t rounds = 2;
  uint32_t chunk_tokens = 512;   ///< calibration text is cut into pieces of so many tokens that know nothing of each other
  uint32_t most_chunks = 32;     ///< pieces that are used, spread evenly over what is given
  uint32_t threads = 0;          ///< 0: one for each core
  /// At most so much memory for what a run holds; 0: no limit. What cannot do with it is refused, where that can be known before anything
  /// is done
  uint64_t host_bytes = 0;
  /// An error is made up for by so many columns in turn, group_weights times a number: memory goes with their square, beyond some thousands
  /// time too. 0: by all of a row where host_bytes has room for that, else by as many as it has
  uint32_t feedback_columns = 0;
  /// Keep what is done in a file `path`.progress until the output is there, and go on from what a call that was cancelled, killed or out of
  /// space left in it
  bool resume = false;
  std::function<void(const CompressResumption&)> on_resume;  ///< told when a call goes on; empty: nobody
  /// A page about what was made, in HTML, that needs nothing else; it appears complete or not at all; empty: none. See
  /// write_compress_page()
  std::string report_file;
  Progress progress;             ///< empty: none. Its share grows by layers
  CancelToken cancel;

  /// Errors: kInvalidArgument.
  OTR_API Status validate() const;
};

/// What became of one matrix.
struct CompressedMatrixReport {
  std::string name;                    ///< of its tensor
  std::string kind;  ///< "q", "k", "v", "output", "gate", "up" or "down"; of the expert that every token passes "shared_gate", ...
  uint32_t layer = 0;
  uint64_t rows = 0, columns = 0;
  int32_t bits = 0;                    ///< of a weight's code
  uint32_t rank = 0;                   ///< of its branch; 0: none
  double share = 0;                    ///< of its residual's columns that a token reads on average; 0: it has none
  uint64_t backbone_bytes = 0, branch_bytes = 0, branch_read_bytes = 0;
  /// Mean square of what the outputs lost, relative to that of the outputs, on some of the calibration's inputs
  double loss = 0;
  double loss_left = 0;                ///< the same with branch or residual, before training
  double kl = 0;                       ///< how much nearer the model comes, by the survey, with this matrix as it was, nats a token
  double restored = 0;                 ///< the part of it that branch or residual was expected to bring back when it was chosen
  /// Of `rows` and `columns` each, that these are the matrices of; losses are means over the tokens that took one
  uint32_t experts = 1;
};

/// What was measured before anything was decided: distances from the model, nats a token, on two pieces of the calibration.
struct CompressSurvey {
  struct Point {
    /// That are stored, or where reading is limited, that a token reads, with a part of the budgets or more than them
    double bytes = 0;
    double restored = 0;  ///< the part of what was lost that they are expected to bring back
  };
  double kl = 0;                                ///< with every matrix in few bits; 0: there was no survey
  /// How much nearer with all of a kind (as CompressReport::matrices has them), or of a layer, as they were
  std::vector<double> kl_by_kind, kl_by_layer;
  std::vector<Point> curve;                     ///< as far as it was looked at; empty without branches and residuals
};

/// What a run held in memory, in bytes: the most at any time, of all purposes together and of each by itself. Not among it are vectors
/// below 64 KiB, of what stays below a page, and what an open model takes.
struct CompressMemory {
  uint64_t budget_bytes = 0;   ///< CompressOptions::host_bytes
  uint64_t planned_bytes = 0;  ///< what was found beforehand to do: for bits alone just that, with more an upper bound
  uint64_t peak_bytes = 0;
  uint32_t feedback_columns = 0;  ///< CompressOptions::feedback_columns, as it was used; 0: all of a row
  uint64_t calibration = 0;    ///< the text's vectors and what the layers make of them
  uint64_t grams = 0;          ///< Gram matrices, and what is made of them
  uint64_t matrices = 0;       ///< the model's matrices as floats, one or a few at a time, and what is computed with them
  uint64_t backbone = 0;       ///< matrices in few bits
  uint64_t corrections = 0;    ///< factors of branches, and residuals
  uint64_t training = 0;
};

/// What training block by block made of a layer: mean squares of what its outputs lack of the model's own, relative to these, on pieces
/// that no step used.
struct PolishedLayer {
  uint32_t layer = 0;
  double error_before = 0, error_after = 0;
  bool is_kept = false;  ///< it is only if it became smaller
};

struct CompressReport {
  uint64_t input_bytes = 0, output_bytes = 0;        ///< of the files
  uint64_t backbone_bytes = 0, backbone_weights = 0;  ///< of the matrices that were compressed
  uint64_t branch_bytes = 0;                          ///< of all branches' factors, and of residuals
  uint64_t branch_read_bytes = 0;                     ///< of them by each token, on average
  uint64_t calibration_tokens = 0;                    ///< that were used
  /// Distance from the model on pieces that no step used, nats a token; 0 without polish
  double polish_kl_before = 0, polish_kl_after = 0;
  bool is_polish_kept = false;                        ///< it is only if it became smaller
  std::vector<double> polish_losses;                  ///< end to end: the distance on each step's piece, before the step
  std::vector<PolishedLayer> polish_layers;           ///< block by block: what became of those with low-rank branches
  PolishScope polish_scope = PolishScope::kAuto;      ///< how it was trained; kAuto: it was not
  uint64_t polish_bytes = 0;                          ///< of memory that training was counted to take at most
  CompressSurvey survey;
  std::vector<CompressedMatrixReport> matrices;       ///< in the order of a step
  CompressMemory memory;
  /// That an interrupted call had made, of four a layer, of a mixture one for each expert instead of the last two; those of the survey too,
  /// where it was that which went on
  uint32_t resumed_windows = 0;
  /// Of backbone_weights those that a token is multiplied with: of a mixture's experts the ones that it takes
  uint64_t used_weights = 0;
};

/// How near a compressed model comes to the one that it was made from, on text that calibration did not use: nats a token. The library does
/// not measure it.
struct CompressQuality {
  struct Figure {
    double value = 0, error = 0;  ///< a mean, and its standard error
  };
  Figure backbone;                    ///< without branches and residuals
  std::optional<Figure> compensated;  ///< with them, where there are any
  Figure recovered;                   ///< the part of the distance that they take away
};

/// Writes `model` to `path` as one GGUF file (docs/formats.md) in which the matrices of its layers are quantised; embedding, head, norms
/// and biases stay as they are, but for norms that are trained with the backbone. Model::open opens it like any other.
///
/// Layer by layer, window by window: the inputs that a window's matrices have on `calibration`, with everything before it compressed
/// already, say how an error in one weight is made up for by those behind it. The text should be like the texts that the model is for, of
/// several kinds. The same model, tokens and options give the same bytes, whatever the number of threads.
///
/// With a budget matrices get low-rank branches or residuals, which steps compute beside them (docs/formats.md); by default the model is
/// first compressed without and measured, which about doubles the time.
///
/// Of a mixture of experts the router stays as it is and chooses for each calibration token as in a step. An expert is quantised by the
/// tokens that take it and by those of its layer, which count as an eighth of the matrix's columns of them: one without tokens has only
/// these. The experts of a layer become one stack for each of gate, up and down, of one width of codes, also where the model has a tensor
/// for each expert. Low-rank branches are for attention and the expert that every token passes; residuals for all, of an expert's a token
/// reads the more columns the more of its result it takes. Memory: the tokens' vectors once more, and a layer's stacks in few bits.
///
/// With `resume` a call that did not come to its end loses at most one window and what training there was, however it ended: the next one
/// with the same model (by its content), tokens and options, whatever its number of threads, goes on and makes the same bytes.
/// `path`.progress has what is done, and the tokens' vectors twice (width * 4 bytes each); it goes when the output is there, or when a call
/// fails for a reason that will not go away. What is there but is damaged, or of other work, is replaced with a warning in the log; where
/// it cannot be written it is done without. A file of another kind that has its name is an error.
///
/// Memory: one layer at a time, within CompressOptions::host_bytes. Without branches a window's matrices as float32, the largest four times
/// over, its inputs' Gram matrix twice, and the calibration tokens' vectors, width * 4 bytes each, twice (with `resume` three times).
/// Branches and residuals take a matrix ten times over, and what was made of the model so far in few bits; training end to end the model
/// twice as float32, 1.6 to 2.2 GB for 135 million parameters, block by block one layer twice and the vectors of the pieces that are
/// trained on twice, 175 MB. CompressReport::memory tells it.
/// Cost: 72 s for 135 million parameters and 16,000 tokens on two cores; with branches that are shared out by measurement and trained 350
/// s, and more with more of them. The file appears under its name complete, or not at all.
/// Errors: kUnsupported when the model cannot run, has rows of no multiple of group_weights, or is a mixture of experts and polish_steps is
/// not 0; kInvalidArgument for options, matrices that have no more bits a weight than are asked for, tokens outside the vocabulary, fewer
/// than one chunk of them, weights or inputs that are no numbers, or a path that is the model's own; kBudget, with the bytes needed and
/// given, when host_bytes is not enough; kIo; kCancelled; kOutOfMemory; kInternal when `progress` or `on_resume` throws.
/// @source GPTQ (arXiv 2210.17323); scales are searched for, and of each block just before its first column is rounded.
OTR_API Result<CompressReport> compress_model(const Model& model, std::span<const Token> calibration, const std::string& path,
                                              const CompressOptions& options = {});

/// What compress_model() would refuse before any work, given a calibration of so many tokens: for a caller whose calibration takes work
/// itself. What it says no more of is the tokens, a plan that turns out to need more than `host_bytes` at the least, and what happens on
/// the way. Creates and removes a file of a name of its own beside each that is to be written. Cost: some milliseconds.
/// Errors: those.
OTR_API Status check_compress(const Model& model, uint64_t calibration_tokens, const std::string& path,
                              const CompressOptions& options = {});

/// Writes the page of options.report_file anew, with what was measured after compress_model() returned `report`; the other arguments are
/// that call's. The page is replaced by a complete one, or stays. Errors: kInvalidArgument without a report_file; kIo; kOutOfMemory; where
/// max_slowdown is above 0 also those of the call.
OTR_API Status write_compress_page(const Model& model, const std::string& path, const CompressOptions& options,
                                   const CompressReport& report, const CompressQuality& quality);

}  // namespace outrigger

#endif  // OUTRIGGER_COMPRESS_H_
