// GgufFile: looking things up in an opened file, and giving the vocabulary's bytes back.
#include "src/io/gguf.h"

#include <algorithm>

namespace outrigger {

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found =
      std::lower_bound(values_.begin(), values_.end(), key, [](const GgufValue& value, std::string_view k) { return value.key_ < k; });
  return found != values_.end() && found->key_ == key ? &*found : nullptr;
}

Result<const GgufValue*> GgufFile::require(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr) return value;
  return Status(StatusCode::kCorruptFile, "the key is missing").in_file(source_->name()).about(std::string(key));
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                      [&](uint32_t index, std::string_view n) { return tensors_[index].name < n; });
  return found != by_name_.end() && tensors_[*found].name == name ? &tensors_[*found] : nullptr;
}

void GgufFile::release_arrays() {
  size_t kept = 0;
  for (const GgufValue& value : values_) kept += value.type_ == GgufType::kArray ? 0 : value.bytes_.size();
  auto compact = std::make_shared<std::vector<std::byte>>();
  compact->reserve(kept);
  for (GgufValue& value : values_) {
    if (value.type_ == GgufType::kArray) {
      value.bytes_ = {};
      continue;
    }
    const std::byte* moved = compact->data() + compact->size();
    compact->insert(compact->end(), value.bytes_.begin(), value.bytes_.end());
    value.bytes_ = {moved, value.bytes_.size()};
  }
  header_ = std::move(compact);
}

}  // namespace outrigger
