// The disk's rate: as many requests in flight as streaming has, of the size that it reads.
#include "src/device/measure_disk.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/samples.h"
#include "src/io/read_queue.h"

namespace outrigger {
namespace {

constexpr uint64_t kRequest = 1_MiB;   // docs/design/0005-reading-the-disk.md, as is the next
constexpr uint32_t kInFlight = 4;
constexpr uint64_t kPerSample = 8;     // requests timed together: one alone says more about the clock's neighbours than about the disk

// A model may be a directory: its largest file of weights. Any other path is itself.
std::string file_to_read(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failure;
  std::string largest = path;
  uint64_t most_bytes = 0;
  fs::directory_iterator entry(path, failure);
  if (failure) return path;
  for (; !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    std::error_code ignored;
    const bool has_weights = entry->path().extension() == ".safetensors" && entry->is_regular_file(ignored);
    const uint64_t bytes = has_weights ? entry->file_size(ignored) : 0;
    if (ignored || bytes <= most_bytes) continue;
    most_bytes = bytes;
    largest = entry->path().string();
  }
  return largest;
}

// Goes through a file request by request, from the beginning again at its end.
class Reader {
 public:
  static Result<Reader> create(Backend& backend, const std::string& path) {
    Reader reader;
    OTR_ASSIGN(reader.source_, open_file(path));
    reader.request_bytes_ = std::min(kRequest, reader.source_->size_bytes());
    if (reader.request_bytes_ == 0) {
      return Status(StatusCode::kIo, "cannot measure the disk: got an empty file, need one of some MiB").in_file(path);
    }
    reader.buffer_bytes_ = reader.source_->direct_staging_bytes(reader.request_bytes_);
    OTR_ASSIGN(reader.memory_, backend.allocate(kInFlight * reader.buffer_bytes_));
    ReadQueueOptions options;
    options.depth = kInFlight;
    options.staging_area = {reader.memory_.data(), reader.memory_.bytes()};
    OTR_ASSIGN(reader.queue_, ReadQueue::create(reader.source_, options));
    for (uint64_t i = 0; i < kInFlight; ++i) OTR_TRY(reader.ask(i));
    return reader;
  }

  bool is_direct() const { return source_->is_direct(); }
  uint64_t request_bytes() const { return request_bytes_; }
  /// Waits for one request, and makes another in its place.
  Status take_one() {
    const ReadDone done = queue_->wait();
    OTR_TRY(done.status);
    return ask(done.tag);
  }

 private:
  Status ask(uint64_t buffer) {
    if (at_ + request_bytes_ > source_->size_bytes()) at_ = 0;  // the last piece of a file is a request of another size
    const ReadRequest request{at_, request_bytes_,
                              std::span(memory_.data(), memory_.bytes()).subspan(buffer * buffer_bytes_, buffer_bytes_), buffer};
    at_ += request_bytes_;
    return queue_->submit(request);
  }

  std::shared_ptr<const ByteSource> source_;
  uint64_t request_bytes_ = 0, buffer_bytes_ = 0, at_ = 0;
  DeviceMemory memory_;
  std::unique_ptr<ReadQueue> queue_;  // after the memory that it reads into
};

}  // namespace

Result<Rate> measure_disk(Backend& backend, const std::string& path, double seconds) {
  OTR_ASSIGN(Reader reader, Reader::create(backend, file_to_read(path)));
  OTR_TRY(reader.take_one());  // opens what a first read opens: metadata, the device's sleep

  Samples samples;
  const auto since = [](auto start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const auto begin = std::chrono::steady_clock::now();
  do {
    const auto start = std::chrono::steady_clock::now();
    for (uint64_t i = 0; i < kPerSample; ++i) OTR_TRY(reader.take_one());
    samples.add(static_cast<double>(kPerSample * reader.request_bytes()), since(start));
  } while (samples.count() < 3 || since(begin) < seconds);
  return samples.rate(formatted("{} requests of {} at a time, {}", kInFlight, format_bytes(reader.request_bytes()),
                                reader.is_direct() ? "past the page cache" : "through the page cache: the file system has no direct I/O"));
}

}  // namespace outrigger
