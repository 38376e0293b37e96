// WriteFaults: asks, then lets the system do it.
#include "tests/support/write_faults.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace {

std::function<int(const std::string&)> decision;

// 0, a count, or -1 with errno set.
int ask(const char* call) {
  const int decided = decision ? decision(call) : 0;
  if (decided <= 0) return -decided;
  errno = decided;
  return -1;
}

}  // namespace

namespace outrigger {

WriteFaults::WriteFaults(std::function<int(const std::string&)> decide) { decision = std::move(decide); }
WriteFaults::~WriteFaults() { decision = nullptr; }

}  // namespace outrigger

extern "C" {

ssize_t write(int file, const void* data, size_t bytes) {
  const int most = file > 2 ? ask("write") : 0;  // what the test itself says goes through
  if (most < 0) return -1;
  return syscall(SYS_write, file, data, most > 0 ? std::min(bytes, static_cast<size_t>(most)) : bytes);
}

ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  const int most = ask("pwrite");
  if (most < 0) return -1;
  return syscall(SYS_pwrite64, file, data, most > 0 ? std::min(bytes, static_cast<size_t>(most)) : bytes, offset);
}

int ftruncate(int file, off_t bytes) noexcept { return ask("ftruncate") < 0 ? -1 : static_cast<int>(syscall(SYS_ftruncate, file, bytes)); }

int fsync(int file) { return ask("fsync") < 0 ? -1 : static_cast<int>(syscall(SYS_fsync, file)); }
int fdatasync(int file) { return ask("fdatasync") < 0 ? -1 : static_cast<int>(syscall(SYS_fdatasync, file)); }

int fallocate(int file, int mode, off_t offset, off_t bytes) {
  return ask("fallocate") < 0 ? -1 : static_cast<int>(syscall(SYS_fallocate, file, mode, offset, bytes));
}

int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) noexcept {
  return ask("linkat") < 0 ? -1 : static_cast<int>(syscall(SYS_linkat, from_folder, from, to_folder, to, flags));
}

int rename(const char* from, const char* to) noexcept {
  return ask("rename") < 0 ? -1 : static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int access(const char* path, int mode) noexcept {
  if (std::strncmp(path, "/proc/", 6) == 0 && ask("access") < 0) return -1;
  return static_cast<int>(syscall(SYS_faccessat, AT_FDCWD, path, mode));
}
}
