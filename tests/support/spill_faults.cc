// SpillFaults: asks, then lets the system do it.
#include "tests/support/spill_faults.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

namespace {

std::mutex mutex;
std::function<int(const std::string&)> decision;

bool is_nameless(int file) {
  struct stat info;
  return ::fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 0;
}

// 0, a count, or -1 with errno set.
int ask(const char* call, int file) {
  const std::lock_guard lock(mutex);
  const int decided = decision && is_nameless(file) ? decision(call) : 0;
  if (decided <= 0) return -decided;
  errno = decided;
  return -1;
}

size_t at_most(size_t bytes, int most) { return most > 0 ? std::min(bytes, static_cast<size_t>(most)) : bytes; }

}  // namespace

namespace outrigger {

SpillFaults::SpillFaults(std::function<int(const std::string&)> decide) {
  const std::lock_guard lock(mutex);
  decision = std::move(decide);
}
SpillFaults::~SpillFaults() {
  const std::lock_guard lock(mutex);
  decision = nullptr;
}

}  // namespace outrigger

struct io_uring;

extern "C" {

// Reads that the kernel queues would pass by what is replaced here: without a ring they come from threads.
int io_uring_queue_init(unsigned /*entries*/, io_uring* /*ring*/, unsigned /*flags*/) { return -ENOSYS; }

ssize_t pread(int file, void* data, size_t bytes, off_t offset) {
  const int most = ask("pread", file);
  return most < 0 ? -1 : syscall(SYS_pread64, file, data, at_most(bytes, most), offset);
}

ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  const int most = ask("pwrite", file);
  return most < 0 ? -1 : syscall(SYS_pwrite64, file, data, at_most(bytes, most), offset);
}

int fallocate(int file, int mode, off_t offset, off_t bytes) {
  return ask("fallocate", file) < 0 ? -1 : static_cast<int>(syscall(SYS_fallocate, file, mode, offset, bytes));
}

int fdatasync(int file) { return ask("fdatasync", file) < 0 ? -1 : static_cast<int>(syscall(SYS_fdatasync, file)); }
}
