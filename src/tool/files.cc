// Whole files in and out.
#include "src/tool/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace outrigger::tool {
namespace {

Status system_failure(const char* what, const std::string& path) {
  const int error = errno;
  return Status(error == ENOENT ? StatusCode::kNotFound : StatusCode::kIo, fmt::format("{}: {}", what, std::strerror(error))).in_file(path);
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  const int file = path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return system_failure("cannot be opened", path);
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = read(file, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      Status status = system_failure("cannot be read", path);
      close(file);
      return status;
    }
    if (got == 0) break;
    bytes.append(buffer, static_cast<size_t>(got));
  }
  close(file);
  return bytes;
}

AtomicFile::AtomicFile(std::FILE* file, std::string path, std::string temporary)
    : file_(file), path_(std::move(path)), temporary_(std::move(temporary)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : file_(std::exchange(other.file_, nullptr)), path_(std::move(other.path_)), temporary_(std::move(other.temporary_)) {}

AtomicFile::~AtomicFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  std::string temporary = path + ".XXXXXX";
  const int descriptor = mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor < 0) return system_failure("cannot be written", path);
  // mkstemp makes it private; a result is an ordinary file.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(descriptor, 0666 & ~mask);
  std::FILE* file = fdopen(descriptor, "wb");
  if (file == nullptr) {
    close(descriptor);
    unlink(temporary.c_str());
    return Status(StatusCode::kOutOfMemory, "no memory for a file's buffer").in_file(path);
  }
  return AtomicFile(file, path, temporary);
}

Status AtomicFile::failure(const char* what) const { return system_failure(what, path_); }

Status AtomicFile::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) return failure("cannot be written");
  return Status();
}

Status AtomicFile::commit() {
  if (std::fflush(file_) != 0 || fsync(fileno(file_)) != 0) return failure("cannot be written");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return failure("cannot be given its name");
  std::fclose(std::exchange(file_, nullptr));
  return Status();
}

Status write_file(const std::string& path, std::string_view bytes) {
  auto file = AtomicFile::create(path);
  if (!file.is_ok()) return file.status();
  if (Status status = file->write(bytes); !status.is_ok()) return status;
  return file->commit();
}

}  // namespace outrigger::tool
