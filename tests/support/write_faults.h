// WriteFaults: the system's calls by which files are written, replaced in the test it is linked into, so that any of them can fail.
#ifndef OUTRIGGER_TESTS_SUPPORT_WRITE_FAULTS_H_
#define OUTRIGGER_TESTS_SUPPORT_WRITE_FAULTS_H_

#include <functional>
#include <string>
#include <vector>

namespace outrigger {

/// While it lives, `decide` sees every write, pwrite, ftruncate, fsync, fdatasync, fallocate, linkat and rename of the library's kind, and
/// access to /proc, by name. It returns 0 to let the call through, an errno to make it fail, or for write and pwrite a negative count: at
/// most that many bytes are taken. One at a time, on one thread.
class WriteFaults {
 public:
  explicit WriteFaults(std::function<int(const std::string& call)> decide);
  ~WriteFaults();
  WriteFaults(const WriteFaults&) = delete;
  WriteFaults& operator=(const WriteFaults&) = delete;
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_WRITE_FAULTS_H_
