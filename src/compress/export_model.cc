// export_model: what can be exported, and both files beside each other.
#include <outrigger/export_model.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <optional>

#include "src/base/macros.h"
#include "src/compress/exported_file.h"
#include "src/tensor/dequantize.h"
#include "src/tensor/half.h"
#include "src/tensor/own_form.h"

namespace outrigger {
namespace {

// Rounding to float16 changes no number within its range by more, relatively; a factor that it changes by more has numbers too small or too
// large for it.
constexpr double kMostRounding = 0x1p-11;

Status refused(StatusCode code, const Model::Impl& model, const char* message) { return Status(code, message).in_file(model.info.file); }

Status check_model(const Model::Impl& model, bool wants_adapter) {
  if (!model.layout) return model.run_status;
  const ModelLayout& layout = *model.layout;
  const auto is_packed = [](const GgufTensor& tensor) { return tensor.is_packed; };
  const auto is_own = [](const GgufTensor& tensor) { return is_own_type(tensor.type); };
  const auto has_branch = [](const BranchLayout& branch) { return branch.rank > 0; };
  const auto has_residual = [](const ResidualLayout& residual) { return residual.file_bytes > 0; };
  const auto tensors = model.file.tensors();
  const bool branches = std::any_of(layout.branches.begin(), layout.branches.end(), has_branch);
  if (std::any_of(layout.residuals.begin(), layout.residuals.end(), has_residual)) {
    return refused(
        StatusCode::kUnsupported, model,
        "sparse residuals cannot be exported, since no other engine computes them; compress with --form low-rank (BranchForm::kLowRank) "
        "instead, or without");
  }
  if (!branches && std::none_of(tensors.begin(), tensors.end(), is_own)) {
    return refused(StatusCode::kInvalidArgument, model,
                   "the model was not compressed, there is nothing to export; give a file that compressing wrote");
  }
  if (std::any_of(tensors.begin(), tensors.end(), is_packed)) {
    return refused(StatusCode::kUnsupported, model,
                   "a packed model cannot be exported; export the one it was packed from, or compress one that is not packed");
  }
  if (layout.config.experts > 0) return refused(StatusCode::kUnsupported, model, "mixtures of experts cannot be exported by this version");
  if (wants_adapter && !branches) {
    return refused(
        StatusCode::kInvalidArgument, model,
        "the model has no low-rank branches to make an adapter of; ask for the backbone alone, or compress with a budget for branches");
  }
  return {};
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

bool is_one_file(const std::string& a, const std::string& b) {
  const auto is_same = [](const std::string& one, const std::string& other) {
    struct stat first, second;
    return ::stat(one.c_str(), &first) == 0 && ::stat(other.c_str(), &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
  };
  return a == b || is_same(a, b) || (a.substr(a.rfind('/') + 1) == b.substr(b.rfind('/') + 1) && is_same(folder_of(a), folder_of(b)));
}

Status check_paths(const Model::Impl& model, const std::string& backbone, const std::string& adapter) {
  OTR_TRY(check_output_path(model, backbone));
  if (adapter.empty()) return {};
  OTR_TRY(check_output_path(model, adapter));
  if (!is_one_file(backbone, adapter)) return {};
  return Status(StatusCode::kInvalidArgument, "backbone and adapter would be one file; give two names").in_file(adapter);
}

// By how much a factor changes: the root of the mean square, relative to its own.
Result<double> rounding_error(const ByteSource& source, const ExportedTensor& tensor, DirectBuffer* staging) {
  double error = 0, size = 0;
  const auto add = [&](const std::byte* rows, uint64_t count) {
    std::vector<float> values(count * tensor.columns);
    OTR_TRY(dequantize(tensor.source->type, rows, values.data(), values.size()));
    for (const float value : values) {
      const double lost = static_cast<double>(f16_to_float(float_to_f16(value))) - value;
      error += lost * lost, size += static_cast<double>(value) * value;
    }
    return Status();
  };
  OTR_TRY(read_in_pieces(source, tensor, staging, add));
  return size > 0 ? std::sqrt(error / size) : 0;
}

class Exporter {
 public:
  Exporter(const Model::Impl& model, const ExportOptions& options) : model_(model), options_(options) {}

  Result<ExportReport> run(const std::string& path) {
    OTR_TRY(check_model(model_, !options_.adapter_path.empty()));
    OTR_TRY(check_paths(model_, path, options_.adapter_path));
    const ByteSource& source = model_.file.source();
    OTR_TRY(source.check_unchanged());
    OTR_ASSIGN(const GgufFile with_arrays, read_header_again(model_));
    std::vector<ExportedTensor> backbone_parts = backbone_tensors(model_), adapter_parts = adapter_tensors(model_);
    report_.input_bytes = model_.info.bytes;
    report_.branches = adapter_parts.size() / 2;
    const auto is_recoded = [](const ExportedTensor& tensor) { return tensor.source != nullptr && is_own_type(tensor.source->type); };
    report_.recoded_matrices = static_cast<uint64_t>(std::count_if(backbone_parts.begin(), backbone_parts.end(), is_recoded));
    const auto first_recoded = std::find_if(backbone_parts.begin(), backbone_parts.end(), is_recoded);
    const auto recoded_to = first_recoded == backbone_parts.end() ? std::nullopt : std::optional(first_recoded->type);
    if (options_.adapter_path.empty()) adapter_parts.clear();
    count(backbone_parts);
    count(adapter_parts);
    OTR_TRY(advance(0));
    OTR_TRY(choose_factor_types(&adapter_parts));

    const ModelConfig& config = model_.layout->config;
    std::optional<ExportedFile> adapter;
    OTR_ASSIGN(ExportedFile backbone,
               ExportedFile::create(path, backbone_header(with_arrays, config, recoded_to), std::move(backbone_parts)));
    if (!adapter_parts.empty()) {
      GgufHeader header = adapter_header(with_arrays, config, adapter_parts);
      OTR_ASSIGN(ExportedFile made, ExportedFile::create(options_.adapter_path, std::move(header), std::move(adapter_parts)));
      adapter.emplace(std::move(made));
    }
    const ExportWatch watch = [this](uint64_t bytes) { return advance(bytes); };
    OTR_TRY(backbone.write(source, watch));
    if (adapter) OTR_TRY(adapter->write(source, watch));
    OTR_TRY(source.check_unchanged());
    if (adapter) OTR_TRY(adapter->commit());
    OTR_TRY(backbone.commit());
    report_.backbone_bytes = backbone.bytes();
    report_.adapter_bytes = adapter ? adapter->bytes() : 0;
    return report_;
  }

 private:
  void count(std::span<const ExportedTensor> tensors) {
    for (const ExportedTensor& tensor : tensors) all_bytes_ += tensor.source == nullptr ? 0 : tensor.source->bytes;
  }

  Status choose_factor_types(std::vector<ExportedTensor>* factors) {
    DirectBuffer staging;
    for (ExportedTensor& factor : *factors) {
      OTR_ASSIGN(const double error, rounding_error(model_.file.source(), factor, &staging));
      if (error <= kMostRounding) {
        report_.adapter_error = std::max(report_.adapter_error, error);
      } else {
        factor.type = DType::kF32;
      }
      OTR_TRY(check_cancelled());
    }
    return {};
  }

  Status check_cancelled() const {
    return options_.cancel.is_cancelled() ? Status(StatusCode::kCancelled, "exporting was cancelled") : Status();
  }

  // Between pieces, and before what cannot be undone.
  Status advance(uint64_t bytes) {
    done_bytes_ += bytes;
    try {
      if (options_.progress && !options_.progress(static_cast<double>(done_bytes_) / static_cast<double>(all_bytes_))) {
        return Status(StatusCode::kCancelled, "exporting was cancelled");
      }
    } catch (...) {
      return Status(StatusCode::kInternal, "the progress callback threw");
    }
    return check_cancelled();
  }

  const Model::Impl& model_;
  const ExportOptions& options_;
  ExportReport report_;
  uint64_t all_bytes_ = 0, done_bytes_ = 0;
};

}  // namespace

Result<ExportReport> export_model(const Model& model, const std::string& backbone_path, const ExportOptions& options) try {
  return Exporter(*model.impl(), options).run(backbone_path);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

}  // namespace outrigger
