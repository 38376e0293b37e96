// SavedWork: whose work it is, and what of it is there.
#include "src/compress/saved_work.h"

#include <outrigger/build_info.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "src/base/bytes.h"
#include "src/base/checksum.h"
#include "src/base/formatted.h"
#include "src/base/logging.h"
#include "src/base/macros.h"
#include "src/compress/matrix_record.h"
#include "src/compress/plan_record.h"

namespace outrigger {
namespace {

// Counts up with every change of what the file's content means, and of what compressing makes of the same input.
constexpr uint64_t kContentVersion = 6;
constexpr uint64_t kHashedBytes = 4_MiB;
enum Slot : size_t { kPlanSlot, kStreamSlots };  // two of the latter, by whether the number of layers is even

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// Everything that decides the bytes, the number of threads not being among it. Hashing a file costs what reading it does, which compressing
// does several times.
Result<uint64_t> identity_of(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options) {
  const std::string version = build_info().version;
  uint64_t sum = checksum64(std::as_bytes(std::span(version)), kContentVersion);
  sum = checksum64(std::as_bytes(tokens), sum);
  const uint64_t numbers[] = {static_cast<uint64_t>(options.bits),
                              options.branch_bytes,
                              options.branch_read_bytes,
                              static_cast<uint64_t>(options.form),
                              static_cast<uint64_t>(options.allocation),
                              static_cast<uint64_t>(options.method),
                              static_cast<uint64_t>(options.factor_bits),
                              options.polish_steps,
                              static_cast<uint64_t>(options.polish_target),
                              options.rounds,
                              options.chunk_tokens,
                              static_cast<uint64_t>(options.levels),
                              options.group_weights,
                              options.feedback_columns};
  const double shares[] = {options.mixed_bits, options.scattered_read_cost};
  sum = checksum64(std::as_bytes(std::span(shares)), checksum64(std::as_bytes(std::span(numbers)), sum));
  const ByteSource& source = model.file.source();
  LeasedVector<std::byte> piece;
  for (uint64_t at = 0; at < source.size_bytes(); at += piece.size()) {
    piece.resize(std::min(source.size_bytes() - at, kHashedBytes));
    OTR_TRY(source.read(at, piece));
    sum = checksum64(piece, sum);
  }
  return sum;
}

uint64_t stamp_of(SavedWork::Pass pass, uint32_t layers) { return uint64_t{static_cast<uint32_t>(pass)} << 32 | layers; }

// An output's name, a dot and six digits, as AtomicFile makes it: nothing else is ever taken away.
void remove_leftover(const std::string& path, const std::string& leftover) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const bool is_ours = leftover.size() == path.size() + 7 && leftover.starts_with(path + ".") &&
                       leftover.find_first_not_of(kDigits, path.size() + 1) == std::string::npos;
  if (is_ours) ::unlink(leftover.c_str());
}

void warn(const std::string& path, const std::string& why) { log_message(LogLevel::kWarning, formatted("{}: {}", path, why)); }

}  // namespace

Result<std::unique_ptr<SavedWork>> SavedWork::open(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                                                   const std::string& path) {
  const std::string file = file_beside(path);
  const auto cannot = [&file](const Status& status) {
    warn(file, formatted("{}; what is done is not kept", status.message()));
    return std::unique_ptr<SavedWork>();
  };
  const auto identity = identity_of(model, tokens, options);
  if (!identity.is_ok()) return cannot(identity.status());
  const uint64_t stream = sizeof(uint64_t) + tokens.size() * model.layout->config.width * sizeof(float);
  const uint64_t slots[] = {plan_record_bytes(*model.layout), stream, stream};
  Result<Journal> journal = Journal::open(file, identity.value(), slots);
  if (!journal.is_ok() && journal.status().code() == StatusCode::kInvalidArgument) return journal.status();
  if (!journal.is_ok()) return cannot(journal.status());
  if (!journal->dropped().empty()) warn(file, formatted("{}: begun anew", journal->dropped()));
  std::unique_ptr<SavedWork> work(new SavedWork(model, options, file, std::move(journal).value()));
  const std::string leftover = work->journal_->note();
  remove_leftover(path, leftover);
  if (!leftover.empty()) work->name_leftover("");
  work->had_plan_ = work->plan().has_value();
  return work;
}

void SavedWork::give_up(const Status& status) {
  warn(file_, formatted("{}; what is done is not kept any more", status.message()));
  remove();
}

void SavedWork::remove() {
  if (journal_) journal_->remove();
  journal_.reset();
  windows_ = 0;
  numbers_.clear();
}

void SavedWork::name_leftover(const std::string& path) {
  if (!journal_ || path.size() > Journal::kMostNote) return;
  if (const Status status = journal_->write_note(path); !status.is_ok()) give_up(status);
}

std::optional<ModelPlan> SavedWork::plan() const { return journal_ ? read_plan(journal_->read_slot(kPlanSlot), layout_) : std::nullopt; }

// The plan must be on the disk before the survey is not.
void SavedWork::keep_plan(const ModelPlan& plan) {
  if (!journal_) return;
  const auto write = [&]() -> Status {
    OTR_TRY(journal_->write_slot(kPlanSlot, write_plan(plan, layout_)));
    OTR_TRY(journal_->flush());
    return journal_->truncate(0);
  };
  if (const Status status = write(); !status.is_ok()) give_up(status);
}

// Records of the survey are of no use to the pass after it: the first that does not read as this pass's ends what there is.
Status SavedWork::begin(Pass pass, std::span<const MatrixPlan> plans) {
  pass_ = pass;
  plans_ = plans;
  windows_ = 0;
  numbers_.clear();
  if (!journal_) return {};
  const auto most = static_cast<size_t>(layout_.config.layers) * windows_of_layer_;
  while (windows_ < std::min(journal_->records(), most) && window(windows_).is_ok()) ++windows_;
  while (pass == Pass::kSurvey && windows_ == most) {
    const std::optional<double> number = read_number(windows_ + numbers());
    if (!number) break;
    numbers_.push_back(*number);
  }
  const size_t there = windows_ + numbers_.size();
  if (there < journal_->records()) {
    warn(file_, formatted("what was kept breaks off after {} windows", windows_));
    if (const Status status = journal_->truncate(there); !status.is_ok()) give_up(status);
  }
  resumed_windows_ += windows_;
  return windows_ > 0 || (pass == Pass::kFinal && had_plan_) ? tell() : Status();
}

Status SavedWork::tell() const {
  try {
    if (options_.on_resume) options_.on_resume({pass_ == Pass::kSurvey, windows_ / windows_of_layer_, layout_.config.layers});
  } catch (...) {
    return Status(StatusCode::kInternal, "the callback for going on threw");
  }
  return {};
}

Result<std::vector<CompressedMatrix>> SavedWork::window(uint32_t index) const {
  if (!journal_ || index >= journal_->records()) return Status(StatusCode::kInternal, "a window that is not there");
  LeasedVector<std::byte> record(journal_->record_bytes(index));
  OTR_TRY(journal_->read(index, record));
  std::span<const std::byte> rest = record;
  std::vector<CompressedMatrix> window;
  const uint64_t stamp = stamp_of(pass_, index);
  if (rest.size() < sizeof stamp || std::memcmp(rest.data(), &stamp, sizeof stamp) != 0)
    return Status(StatusCode::kCorruptFile, "a kept window of another pass");
  rest = rest.subspan(sizeof stamp);
  const std::vector<Window> windows = windows_of(layout_, index / windows_of_layer_);
  for (const uint32_t matrix : windows[index % windows_of_layer_].matrices) {
    OTR_ASSIGN(CompressedMatrix made, take_matrix_record(plans_[matrix], layout_.weights[matrix], options_.factor_bits, &rest));
    window.push_back(std::move(made));
  }
  if (!rest.empty()) return Status(StatusCode::kCorruptFile, "a kept window of too many bytes");
  return window;
}

std::optional<double> SavedWork::read_number(uint32_t index) const {
  if (index >= journal_->records()) return std::nullopt;
  auto record = journal_->read(index);
  const uint64_t stamp = stamp_of(pass_, index);
  double number = 0;
  if (!record.is_ok() || record->size() != sizeof stamp + sizeof number || std::memcmp(record->data(), &stamp, sizeof stamp) != 0)
    return std::nullopt;
  std::memcpy(&number, record->data() + sizeof stamp, sizeof number);
  return number;
}

void SavedWork::append(uint32_t index, std::span<const std::byte> content) {
  const uint64_t stamp = stamp_of(pass_, index);
  LeasedVector<std::byte> record(sizeof stamp + content.size());
  std::memcpy(record.data(), &stamp, sizeof stamp);
  std::copy(content.begin(), content.end(), record.begin() + sizeof stamp);
  if (const Status status = journal_->append(record); !status.is_ok()) give_up(status);
}

void SavedWork::keep_window(std::span<const std::byte> record) {
  if (!journal_) return;
  append(windows_, record);
  if (journal_) ++windows_;
}

void SavedWork::keep_number(double number) {
  if (!journal_) return;
  append(windows_ + numbers(), bytes_of(number));
  if (journal_) numbers_.push_back(number);
}

uint32_t SavedWork::restore_stream(LeasedVector<float>* stream) const {
  const uint32_t most = windows_ / windows_of_layer_;
  for (uint32_t layers = most; journal_ && layers > 0 && layers + 2 > most; --layers) {
    const uint64_t stamp = stamp_of(pass_, layers);
    LeasedVector<std::byte> content(sizeof stamp + stream->size() * sizeof(float));
    if (!journal_->read_slot(kStreamSlots + layers % 2, content) || std::memcmp(content.data(), &stamp, sizeof stamp) != 0) continue;
    std::memcpy(stream->data(), content.data() + sizeof stamp, stream->size() * sizeof(float));
    return layers;
  }
  return 0;
}

// What the slot held is needed until the other one and the windows are on the disk.
void SavedWork::keep_stream(uint32_t layers, std::span<const float> stream) {
  if (!journal_) return;
  const uint64_t stamp = stamp_of(pass_, layers);
  LeasedVector<std::byte> content(sizeof stamp + stream.size_bytes());
  std::memcpy(content.data(), &stamp, sizeof stamp);
  std::memcpy(content.data() + sizeof stamp, stream.data(), stream.size_bytes());
  Status status = journal_->flush();
  if (status.is_ok()) status = journal_->write_slot(kStreamSlots + layers % 2, content);
  if (!status.is_ok()) give_up(status);
}

}  // namespace outrigger
