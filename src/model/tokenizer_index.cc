// MergeTable: how it is laid out.
#include "src/model/tokenizer_index.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace outrigger {

MergeTable::MergeTable(const std::vector<Rule>& rules) : homes_(rules.size() + rules.size() / 3 + 1) {
  entries_.clear();
  entries_.reserve(homes_ + 64);  // the last keys may spill over the end, in practice by a handful
  for (size_t rank = 0; rank < rules.size(); ++rank) {
    entries_.push_back({key_of(rules[rank].left, rules[rank].right), static_cast<uint32_t>(rank), rules[rank].merged});
  }
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.key, a.rank) < std::tie(b.key, b.rank); });
  entries_.erase(std::unique(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.key == b.key; }),
                 entries_.end());

  // Each goes to its home or, where that is taken, right behind the one before it: the order stays.
  std::vector<uint32_t> places(entries_.size());
  size_t free = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    places[i] = static_cast<uint32_t>(std::max(free, home_of(entries_[i].key)));
    free = places[i] + size_t{1};
  }
  entries_.resize(std::max<size_t>(homes_, free) + 1, kEmpty);
  // No place lies before the entry's present one, so moving from the back overwrites nothing that is still to move.
  for (size_t i = places.size(); i-- > 0;) {
    const Entry entry = std::exchange(entries_[i], kEmpty);
    entries_[places[i]] = entry;
  }
}

}  // namespace outrigger
