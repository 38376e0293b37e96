// HfFolder: the files of a Hugging Face model directory, and no others.
#ifndef OUTRIGGER_SRC_MODEL_HF_FOLDER_H_
#define OUTRIGGER_SRC_MODEL_HF_FOLDER_H_

#include <outrigger/status.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/io/byte_source.h"
#include "src/io/json_text.h"
#include "src/io/safetensors.h"

namespace outrigger {

/// Settings are small; a vocabulary or an index may be as large as JsonText takes.
inline constexpr uint64_t kHfMaxSettingsBytes = uint64_t{1} << 24;
inline constexpr size_t kHfMaxShards = 1024;

class HfFolder {
 public:
  /// The directory that `path` means: `path` itself, or the one that holds it when it is called config.json, model.safetensors or
  /// model.safetensors.index.json. Nothing for any other path.
  static std::optional<HfFolder> find(const std::string& path);

  const std::string& path() const { return path_; }
  /// The directory's own name, for people.
  std::string name() const;
  /// For messages: "<directory>/<name>".
  std::string path_of(const std::string& name) const;
  bool has(const std::string& name) const;

  /// A file of the directory. A name is a plain one, and a symbolic link may lead to a file of the directory itself or, as the Hugging Face
  /// cache lays it out, from snapshots/<revision> to blobs; names and links that lead elsewhere are kCorruptFile.
  /// Other errors: as open_file.
  Result<std::shared_ptr<const ByteSource>> open(const std::string& name, DirectIo direct) const;
  /// A text file, or nothing if there is none. Errors: as open(); kUnsupported beyond `most_bytes`.
  Result<std::optional<std::string>> read(const std::string& name, uint64_t most_bytes) const;
  Result<std::optional<JsonText>> read_json(const std::string& name, uint64_t most_bytes) const;

  /// The headers of model.safetensors, or of the files that model.safetensors.index.json lists. An index must agree with its files: every
  /// tensor it lists is in the file it says, and every tensor of a file is listed.
  /// Errors: kCorruptFile; kNotFound; kUnsupported for weights in another format, and for more than kHfMaxShards files; kIo.
  Result<std::vector<SafetensorsFile>> open_weights(DirectIo direct) const;

 private:
  explicit HfFolder(std::string path) : path_(std::move(path)) {}
  Status check_name(const std::string& name) const;
  Status check_link(const std::string& name) const;
  Result<std::vector<SafetensorsFile>> open_shards(const JsonText& index, DirectIo direct) const;

  std::string path_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_FOLDER_H_
