// SavedWork: what an interrupted compressing has made, for the next one to go on from.
#ifndef OUTRIGGER_SRC_COMPRESS_SAVED_WORK_H_
#define OUTRIGGER_SRC_COMPRESS_SAVED_WORK_H_

#include <outrigger/compress.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/compress/compressor.h"
#include "src/compress/matrix_plan.h"
#include "src/io/journal.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// A file beside the output, `path`.progress: the plan, the windows that were finished since, and the residual stream after each of the
/// last two layers. Layers before such a stream need no computing at all; of the one behind it, windows that are there cost only their
/// forward pass. The stream is written anew after each layer, 38 MB for 16,000 tokens of a width of 576: computing it from the finished
/// layers takes a third of the time that they took (of 135 million parameters, 24 s of a processor's time for 19 layers). It never makes
/// compressing fail: what cannot be used is dropped and what cannot be written is done without, with a warning in the log. Threads: one.
class SavedWork {
 public:
  /// The model is compressed once to find a plan, and once by it.
  enum class Pass : uint32_t { kSurvey = 1, kFinal = 2 };

  static std::string file_beside(const std::string& path) { return path + ".progress"; }
  /// Null where no file can be had. `tokens`: those that are used; they, the options and the model must outlive the object. Reads the
  /// model's file once, to know it again. Errors: kInvalidArgument when a file of another kind has the name.
  static Result<std::unique_ptr<SavedWork>> open(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                                         const std::string& path);

  /// Where an output file without its name stands meanwhile: taken away by the next that opens the work, if this process is killed.
  void name_leftover(const std::string& path);

  /// The plan that was kept.
  std::optional<ModelPlan> plan() const;
  /// Drops what the survey left.
  void keep_plan(const ModelPlan& plan);

  /// Begins a pass, whose `plans` (by matrix of the layout) must outlive it, finds which of its windows are there, and tells
  /// CompressOptions::on_resume. Errors: kInternal when that throws.
  Status begin(Pass pass, std::span<const MatrixPlan> plans);
  /// The windows of the pass that are there.
  uint32_t windows() const { return windows_; }
  /// Those that were there when a pass began, of all passes.
  uint32_t resumed_windows() const { return resumed_windows_; }
  /// One of them, by its index. Errors: kIo, kCorruptFile, when the file changed under us.
  Result<std::vector<CompressedMatrix>> window(uint32_t index) const;
  /// The next one. `record`: its matrices, by append_matrix_record().
  void keep_window(std::span<const std::byte> record);

  /// Measurements that follow the windows of the survey, in their order.
  uint32_t numbers() const { return static_cast<uint32_t>(numbers_.size()); }
  double number(uint32_t index) const { return numbers_[index]; }
  void keep_number(double number);

  /// The stream after the most layers for which it is there, and how many that is; 0: it is none, and `stream` as it was.
  uint32_t restore_stream(LeasedVector<float>* stream) const;
  void keep_stream(uint32_t layers, std::span<const float> stream);

  /// The work is done, or of no use to anybody.
  void remove();
  /// There is neither a plan nor a record.
  bool is_empty() const { return (!journal_ || journal_->records() == 0) && !plan(); }

 private:
  SavedWork(const Model::Impl& model, const CompressOptions& options, std::string file, Journal journal)
      : layout_(*model.layout),
        windows_of_layer_(outrigger::windows_of_layer(layout_)),
        options_(options),
        file_(std::move(file)),
        journal_(std::move(journal)) {}
  void give_up(const Status& status);
  Status tell() const;
  std::optional<double> read_number(uint32_t index) const;
  void append(uint32_t index, std::span<const std::byte> content);

  const ModelLayout& layout_;
  const uint32_t windows_of_layer_;
  const CompressOptions& options_;
  const std::string file_;
  std::optional<Journal> journal_;  ///< none after it could not be written
  Pass pass_ = Pass::kSurvey;
  std::span<const MatrixPlan> plans_;
  uint32_t windows_ = 0, resumed_windows_ = 0;
  std::vector<double> numbers_;
  bool had_plan_ = false;  ///< when it was opened
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_SAVED_WORK_H_
