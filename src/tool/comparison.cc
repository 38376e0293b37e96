// Who is nearest for the bytes: of two files the one with fewer bytes stands before the other, unless that is nearer.
#include "src/tool/comparison.h"

#include <fmt/format.h>

namespace outrigger::tool {
namespace {

constexpr double kSameBytes = 1.01;  // budgets are met by whole ranks and columns, seldom to the byte
constexpr double kErrors = 2;        // chance alone goes as far once in twenty times

bool is_at_most(uint64_t bytes, uint64_t others) { return static_cast<double>(bytes) <= kSameBytes * static_cast<double>(others); }

// Of as many bytes the nearer one is before, of two that are as near the first.
bool is_before(const std::vector<ComparedFile>& files, BytesOf bytes, size_t one, size_t other) {
  if (!is_at_most(bytes(files[one]), bytes(files[other]))) return false;
  if (!is_at_most(bytes(files[other]), bytes(files[one]))) return true;
  const double kl = files[one].kl.estimate().value, others = files[other].kl.estimate().value;
  return kl != others ? kl < others : one < other;
}

std::string verdict_line(const std::vector<ComparedFile>& files, const char* what, BytesOf bytes) {
  const std::vector<Standing> all = standings(files, bytes);
  std::string nearest, others;
  for (size_t i = 0; i < files.size(); ++i) {
    const Standing& one = all[i];
    if (!one.behind) {
      nearest += (nearest.empty() ? "" : ", ") + files[i].name;
    } else if (one.differs()) {
      others += fmt::format("; {} is farther than {} by {:.4f} +- {:.4f}", files[i].name, files[*one.behind].name, one.farther.value,
                            one.farther.error);
    } else {
      others += fmt::format("; {} does not differ from {}", files[i].name, files[*one.behind].name);
    }
  }
  return fmt::format("nearest for the bytes {}: {}{}\n", what, nearest, others);
}

}  // namespace

std::optional<Recovered> recovered_by(const ComparedFile& one, const std::vector<ComparedFile>& all) {
  if (!one.bare_kl) return std::nullopt;
  const Mean* whole = &*one.bare_kl;
  std::string of = one.name;
  for (const ComparedFile& other : all) {
    if (other.branch_bytes > 0 || !is_at_most(other.backbone_bytes, one.backbone_bytes)) continue;
    if (other.kl.estimate().value >= whole->estimate().value) continue;
    whole = &other.kl;
    of = other.name;
  }
  return Recovered{recovered_share(one.kl.group_means(), whole->group_means()), of};
}

uint64_t stored_bytes(const ComparedFile& one) { return one.backbone_bytes + one.branch_bytes; }
uint64_t read_bytes(const ComparedFile& one) { return one.read_bytes_per_token; }

bool Standing::differs() const { return farther.value > kErrors * farther.error; }

std::vector<Standing> standings(const std::vector<ComparedFile>& files, BytesOf bytes) {
  std::vector<Standing> all(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    std::optional<size_t> nearest;
    for (size_t j = 0; j < files.size(); ++j) {
      if (j == i || !is_before(files, bytes, j, i)) continue;
      if (!nearest || files[j].kl.estimate().value < files[*nearest].kl.estimate().value) nearest = j;
    }
    if (!nearest) continue;
    const Estimate farther = difference(files[i].kl, files[*nearest].kl);
    if (-farther.value > kErrors * farther.error) continue;
    all[i] = {nearest, farther};
  }
  return all;
}

std::string verdict_text(const std::vector<ComparedFile>& files) {
  return verdict_line(files, "stored", stored_bytes) + verdict_line(files, "that a token reads", read_bytes);
}

}  // namespace outrigger::tool
