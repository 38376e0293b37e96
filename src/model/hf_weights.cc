// HfFolder: the weights' files, and the index that lists them.
#include <algorithm>
#include <numeric>
#include <set>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/hf_folder.h"

namespace outrigger {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// A shard with its tensors findable by name, and what the index has said of them.
struct Shard {
  const SafetensorsFile* file;
  std::vector<uint32_t> by_name;
  std::vector<bool> is_listed;

  explicit Shard(const SafetensorsFile& opened) : file(&opened), by_name(opened.tensors().size()), is_listed(opened.tensors().size()) {
    std::iota(by_name.begin(), by_name.end(), 0);
    std::sort(by_name.begin(), by_name.end(), [this](uint32_t a, uint32_t b) { return name(a) < name(b); });
  }
  const std::string& name(uint32_t tensor) const { return file->tensors()[tensor].name; }
  bool list(std::string_view wanted) {
    const auto found =
        std::lower_bound(by_name.begin(), by_name.end(), wanted, [this](uint32_t tensor, std::string_view n) { return name(tensor) < n; });
    if (found == by_name.end() || name(*found) != wanted) return false;
    is_listed[*found] = true;
    return true;
  }
};

// The N of "model-00001-of-0000N.safetensors"; 0 for a name of another form.
uint64_t count_in_name(std::string_view name) {
  const size_t of = name.rfind("-of-");
  if (of == std::string_view::npos || !name.ends_with(".safetensors")) return 0;
  uint64_t count = 0;
  for (const char c : name.substr(of + 4, name.size() - of - 4 - std::string_view(".safetensors").size())) {
    if (c < '0' || c > '9' || count > kHfMaxShards) return 0;
    count = count * 10 + static_cast<uint64_t>(c - '0');
  }
  return count;
}

}  // namespace

Result<std::vector<SafetensorsFile>> HfFolder::open_weights(DirectIo direct) const {
  if (has(kSingle)) {
    OTR_ASSIGN(std::shared_ptr<const ByteSource> source, open(kSingle, direct));
    OTR_ASSIGN(SafetensorsFile file, SafetensorsFile::open(std::move(source)));
    std::vector<SafetensorsFile> files;
    files.push_back(std::move(file));
    return files;
  }
  OTR_ASSIGN(const std::optional<JsonText> index, read_json(kIndex, kJsonMaxBytes));
  if (index) return open_shards(*index, direct);
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (has(other)) return Status(StatusCode::kUnsupported, "the weights are pickled; save them as safetensors").in_file(path_of(other));
  }
  return Status(StatusCode::kNotFound, formatted("the directory has neither {} nor {}", kSingle, kIndex)).in_file(path_);
}

Result<std::vector<SafetensorsFile>> HfFolder::open_shards(const JsonText& index, DirectIo direct) const {
  const std::optional<JsonValue> map = index.root().find("weight_map");
  if (!map || map->kind() != JsonKind::kObject)
    return (map ? *map : index.root()).wrong("weight_map", "an object of tensors and their files");

  std::set<std::string, std::less<>> names;
  OTR_TRY(map->each_member([&](std::string_view tensor, JsonValue value) -> Status {
    const std::optional<std::string> name = value.string();
    if (!name) return value.wrong(std::string(tensor), "a file's name");
    if (names.contains(*name)) return {};
    if (!check_name(*name).is_ok()) return value.wrong(std::string(tensor), "the plain name of a file of the directory");
    if (names.size() == kHfMaxShards)
      return value.error(StatusCode::kUnsupported, "weight_map", formatted("more than {} files are listed", kHfMaxShards));
    names.insert(*name);
    return {};
  }));
  for (const std::string& name : names) {
    const uint64_t count = count_in_name(name);
    if (count != 0 && count != names.size()) {
      return map->error(StatusCode::kCorruptFile, "weight_map",
                        formatted("{} is one of {} files by its name, but {} are listed", printable(name), count, names.size()));
    }
  }
  if (names.empty()) return map->error(StatusCode::kCorruptFile, "weight_map", "no tensor is listed");

  std::vector<SafetensorsFile> files;
  for (const std::string& name : names) {
    OTR_ASSIGN(std::shared_ptr<const ByteSource> source, open(name, direct));
    OTR_ASSIGN(SafetensorsFile file, SafetensorsFile::open(std::move(source)));
    files.push_back(std::move(file));
  }
  std::vector<Shard> shards(files.begin(), files.end());
  OTR_TRY(map->each_member([&](std::string_view tensor, JsonValue value) -> Status {
    const std::string name = *value.string();
    const size_t shard = static_cast<size_t>(std::distance(names.begin(), names.find(name)));
    if (shards[shard].list(tensor)) return {};
    return value.error(StatusCode::kCorruptFile, std::string(tensor),
                       formatted("the tensor is not in {}, where the index says", printable(name)));
  }));
  for (const Shard& shard : shards) {
    const auto unlisted = std::find(shard.is_listed.begin(), shard.is_listed.end(), false);
    if (unlisted == shard.is_listed.end()) continue;
    const SafetensorsTensor& tensor = shard.file->tensors()[static_cast<size_t>(unlisted - shard.is_listed.begin())];
    return Status(StatusCode::kCorruptFile, formatted("{} does not list this tensor for this file", kIndex))
        .in_file(shard.file->source()->name())
        .about(printable(tensor.name))
        .at_offset(tensor.offset);
  }
  return files;
}

}  // namespace outrigger
