// Branches, or more bits: what files that stand side by side say to that.
#ifndef OUTRIGGER_SRC_TOOL_COMPARISON_H_
#define OUTRIGGER_SRC_TOOL_COMPARISON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/tool/statistics.h"

namespace outrigger::tool {

/// What a file costs, and how far it is from the reference, by the same chunks as the others.
struct ComparedFile {
  std::string name;
  uint64_t backbone_bytes = 0, branch_bytes = 0, read_bytes_per_token = 0;
  Mean kl;
  std::optional<Mean> bare_kl;  ///< without its branches; none where it has none
};

/// The part of a distance that branches take away.
struct Recovered {
  Estimate share;
  std::string of;  ///< the file whose distance is the whole: another one, without branches, or the file itself without its own
};

/// 1 - KL / the least KL that one has for as many bytes of backbone without branches: a backbone that was made together with its branches
/// is often worse without them than one that was made alone. None for a file without branches.
std::optional<Recovered> recovered_by(const ComparedFile& one, const std::vector<ComparedFile>& all);

/// The bytes that count.
using BytesOf = uint64_t (*)(const ComparedFile&);
uint64_t stored_bytes(const ComparedFile& one);
uint64_t read_bytes(const ComparedFile& one);

/// Where a file stands among the others.
struct Standing {
  std::optional<size_t> behind;  ///< the nearest of those that take no more bytes; none: this one is nearer than all of them
  Estimate farther;              ///< than that, nats a token

  /// False: the distances are the same within twice their error.
  bool differs() const;
};

/// One for each. Bytes within 1 % of each other are the same.
std::vector<Standing> standings(const std::vector<ComparedFile>& files, BytesOf bytes);

/// Two lines: for the bytes that are stored, and for those that a token reads, which files are the nearest, and what the others stand
/// behind.
std::string verdict_text(const std::vector<ComparedFile>& files);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMPARISON_H_
