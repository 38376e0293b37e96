// SpillFaults: the system's calls on files without a name, replaced in the test it is linked into, so that any of them can fail.
#ifndef OUTRIGGER_TESTS_SUPPORT_SPILL_FAULTS_H_
#define OUTRIGGER_TESTS_SUPPORT_SPILL_FAULTS_H_

#include <functional>
#include <string>

namespace outrigger {

/// While it lives, `decide` sees every pread, pwrite, fallocate and fdatasync of a file that has no name, by the call's. It returns 0 to
/// let the call through, an errno to make it fail, or for pread and pwrite a negative count: at most that many bytes are moved. One at a
/// time; calls come from any thread, one after the other.
class SpillFaults {
 public:
  explicit SpillFaults(std::function<int(const std::string& call)> decide);
  ~SpillFaults();
  SpillFaults(const SpillFaults&) = delete;
  SpillFaults& operator=(const SpillFaults&) = delete;
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_SPILL_FAULTS_H_
