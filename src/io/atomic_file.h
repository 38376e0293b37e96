// Writing a file that appears complete under its name, or not at all.
#ifndef OUTRIGGER_SRC_IO_ATOMIC_FILE_H_
#define OUTRIGGER_SRC_IO_ATOMIC_FILE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace outrigger {

/// Writes `content` to a new file beside `path`, flushes it to the disk and renames it over `path`. Until then whatever stood there stays;
/// after a failure nothing new is left behind. Errors: kIo, naming the file and the system's reason.
Status write_file_atomically(const std::string& path, std::span<const std::byte> content);

/// The whole of a regular file. Errors: as open_file.
Result<std::vector<std::byte>> read_whole_file(const std::string& path);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_ATOMIC_FILE_H_
