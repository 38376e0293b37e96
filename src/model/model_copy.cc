// What writing another file from an open model takes.
#include "src/model/model_copy.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "src/base/macros.h"
#include "src/model/hf_model.h"

namespace outrigger {
namespace {

bool is_same_file(const std::string& a, const std::string& b) {
  struct stat one, other;
  return ::stat(a.c_str(), &one) == 0 && ::stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

Status check_output_path(const Model::Impl& model, const std::string& path) {
  struct stat there;
  if (::stat(path.c_str(), &there) != 0) return {};
  const size_t slash = path.rfind('/');
  const bool in_folder = model.folder && is_same_file(slash == std::string::npos ? "." : path.substr(0, slash + 1), model.folder->path());
  std::set<std::string> files = {model.info.file};
  for (const GgufTensor& tensor : model.file.tensors()) files.insert(model.file.source().locate(tensor.offset).file);
  const bool is_input = std::any_of(files.begin(), files.end(), [&path](const std::string& file) { return is_same_file(file, path); });
  if (!in_folder && !is_input) return {};
  return Status(StatusCode::kInvalidArgument, "it would replace a file of the model it is made from; choose another name")
      .in_file(path);
}

Result<GgufFile> read_header_again(const Model::Impl& model) {
  std::shared_ptr<const ByteSource> source = model.file.shared_source();
  if (model.folder) {
    OTR_ASSIGN(HfModel made, open_hf_model(*model.folder, DirectIo::kAuto));
    source = std::move(made.source);
  }
  OTR_ASSIGN(GgufFile file, GgufFile::open(std::move(source), kSafetensorsMaxNameBytes));
  const auto equal = [](const GgufTensor& a, const GgufTensor& b) {
    return a.name == b.name && a.type == b.type && a.dims == b.dims && a.offset == b.offset && a.is_packed == b.is_packed;
  };
  if (!std::equal(file.tensors().begin(), file.tensors().end(), model.file.tensors().begin(), model.file.tensors().end(), equal)) {
    return Status(StatusCode::kIo, "the model changed while in use: its tensors are others than when it was opened")
        .in_file(model.info.file);
  }
  return file;
}

std::vector<const GgufValue*> values_in_order(const GgufFile& file) {
  std::vector<const GgufValue*> values;
  for (const GgufValue& value : file.values()) values.push_back(&value);
  std::sort(values.begin(), values.end(), [](const GgufValue* a, const GgufValue* b) { return a->file_offset() < b->file_offset(); });
  return values;
}

}  // namespace outrigger
