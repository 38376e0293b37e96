// The shared object with the CUDA backend: where it is looked for, and what is said when it cannot be had.
#include "src/device/cuda_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/cuda_interface.h"

namespace outrigger {
namespace {

constexpr char kLibrary[] = "liboutrigger_cuda.so";
constexpr char kOverride[] = "OUTRIGGER_CUDA_LIBRARY";

Result<int> parse_number(std::string_view device) {
  if (device == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  int number = -1;
  if (device.starts_with(kPrefix) && device.size() > kPrefix.size() && device[kPrefix.size()] != '-') {
    const char* const end = device.data() + device.size();
    const auto [rest, error] = std::from_chars(device.data() + kPrefix.size(), end, number);
    if (error == std::errc() && rest == end) return number;
  }
  return Status(StatusCode::kInvalidArgument,
                formatted("device: got \"{}\", need \"cuda\" or \"cuda:N\", N being a GPU's number from 0", device));
}

Status unavailable(std::string_view device, std::string_view why) {
  return Status(StatusCode::kUnavailable, formatted("device \"{}\": {}", device, why));
}

// The folder of the library or program that this function is in; nothing if that cannot be told.
std::optional<std::filesystem::path> own_folder() {
  std::error_code error;
  Dl_info info{};
  std::filesystem::path file;
  if (::dladdr(reinterpret_cast<const void*>(&open_cuda_backend), &info) != 0 && info.dli_fname != nullptr) file = info.dli_fname;
  // Of the program itself this is how it was called, which the search path or another working folder may make wrong.
  if (!file.is_absolute()) file = "/proc/self/exe";
  file = std::filesystem::canonical(file, error);
  return error ? std::nullopt : std::optional(file.parent_path());
}

// Where it is looked for, in this order. A name without a folder is the dynamic linker's to find.
std::vector<std::string> places() {
  if (const char* const given = std::getenv(kOverride); given != nullptr && *given != '\0') return {given};
  std::vector<std::string> found;
  if (const auto folder = own_folder()) {
    for (const char* const beside : {".", "../lib", "../" OTR_LIBRARY_FOLDER}) {
      const std::string place = (*folder / beside / kLibrary).lexically_normal().string();
      if (found.empty() || found.back() != place) found.push_back(place);
    }
  }
  found.emplace_back(kLibrary);
  return found;
}

Result<CudaOpen> load(std::string_view device) {
  std::string looked_for;
  for (const std::string& place : places()) {
    // It is never closed: the driver's threads may outlive any backend.
    void* const library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    const bool is_there = library != nullptr || ::access(place.c_str(), F_OK) == 0;
    if (!is_there) {
      looked_for += formatted("{}{}", looked_for.empty() ? "" : ", ", place);
      continue;
    }
    const char* const reason = library == nullptr ? ::dlerror() : nullptr;
    void* const open = library == nullptr ? nullptr : ::dlsym(library, kCudaOpenName);
    if (open != nullptr) return reinterpret_cast<CudaOpen>(open);
    return unavailable(device, formatted("{} cannot be loaded ({}); install it from the same build as this library", place,
                                         reason != nullptr ? reason : "it is not Outrigger's"));
  }
  return unavailable(device, formatted("there is no {}: looked for {}; build Outrigger with -DOTR_CUDA=ON where nvcc is and install its "
                                       "component cuda, set {} to the file, or use device \"cpu\"",
                                       kLibrary, looked_for, kOverride));
}

}  // namespace

Result<std::unique_ptr<Backend>> open_cuda_backend(std::string_view device) {
  OTR_ASSIGN(const int number, parse_number(device));
  OTR_ASSIGN(const CudaOpen open, load(device));
  Result<std::unique_ptr<Backend>> result = Status(StatusCode::kInternal, "the CUDA backend gave no answer");
  const std::string theirs = open(kCudaInterface, number, &result);
  if (theirs == kCudaInterface) return result;
  return unavailable(device, formatted("{} is of another version (it has {}, this library {}); install both from the same build", kLibrary,
                                       theirs, kCudaInterface));
}

}  // namespace outrigger
