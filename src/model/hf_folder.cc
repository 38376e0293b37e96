// HfFolder: names, links, small files.
#include "src/model/hf_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <climits>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {
namespace {

constexpr size_t kMostNameBytes = 255;

std::optional<std::string> real_path(const std::string& path) {
  // A buffer of our own: the address sanitizer's realpath of gcc 12 keeps the one it makes when the path leads nowhere.
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return std::nullopt;
  return std::string(resolved);
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string base_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

std::optional<HfFolder> HfFolder::find(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  if (S_ISDIR(info.st_mode)) {
    std::string folder = path;
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    return HfFolder(std::move(folder));
  }
  const std::string name = base_of(path);
  if (!S_ISREG(info.st_mode)) return std::nullopt;
  if (name == "config.json" || name == "model.safetensors" || name == "model.safetensors.index.json") return HfFolder(parent_of(path));
  return std::nullopt;
}

std::string HfFolder::path_of(const std::string& name) const { return path_ + (path_.ends_with('/') ? "" : "/") + name; }

std::string HfFolder::name() const {
  const std::optional<std::string> real = real_path(path_);
  return base_of(real ? *real : path_);
}

bool HfFolder::has(const std::string& name) const {
  struct stat info {};
  return ::lstat(path_of(name).c_str(), &info) == 0;
}

Status HfFolder::check_name(const std::string& name) const {
  const bool odd =
      std::any_of(name.begin(), name.end(), [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f || c == '/' || c == '\\'; });
  if (!name.empty() && name != "." && name != ".." && name.size() <= kMostNameBytes && !odd) return {};
  return Status(StatusCode::kCorruptFile, "a file is named that is not plainly one of the directory's own").in_file(path_);
}

Status HfFolder::check_link(const std::string& name) const {
  const std::string path = path_of(name);
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISLNK(info.st_mode)) return {};  // opening says what is wrong with a missing one
  const std::optional<std::string> target = real_path(path), folder = real_path(path_);
  if (!target || !folder) return Status(StatusCode::kNotFound, "a symbolic link that leads nowhere").in_file(path);
  const std::string holder = parent_of(*target), above = parent_of(*folder);
  if (holder == *folder || (base_of(above) == "snapshots" && holder == parent_of(above) + "/blobs")) return {};
  return Status(StatusCode::kCorruptFile, "a symbolic link that leads out of the model's directory; put the file itself there")
      .in_file(path);
}

Result<std::shared_ptr<const ByteSource>> HfFolder::open(const std::string& name, DirectIo direct) const {
  OTR_TRY(check_name(name));
  OTR_TRY(check_link(name));
  return open_file(path_of(name), direct);
}

Result<std::optional<std::string>> HfFolder::read(const std::string& name, uint64_t most_bytes) const {
  if (!has(name)) return std::optional<std::string>();
  OTR_ASSIGN(const std::shared_ptr<const ByteSource> source, open(name, DirectIo::kOff));
  const uint64_t bytes = source->size_bytes();
  if (bytes > most_bytes) {
    return Status(StatusCode::kUnsupported, formatted("the file has {}, the limit is {}", format_bytes(bytes), format_bytes(most_bytes)))
        .in_file(source->name());
  }
  std::string text(bytes, '\0');
  OTR_TRY(source->read(0, std::as_writable_bytes(std::span(text))));
  return std::optional(std::move(text));
}

Result<std::optional<JsonText>> HfFolder::read_json(const std::string& name, uint64_t most_bytes) const {
  OTR_ASSIGN(std::optional<std::string> text, read(name, most_bytes));
  if (!text) return std::optional<JsonText>();
  OTR_ASSIGN(JsonText json, JsonText::parse(std::move(*text), path_of(name)));
  if (json.root().kind() != JsonKind::kObject) return json.root().wrong(name, "an object");
  return std::optional(std::move(json));
}

}  // namespace outrigger
