// Our own formats as a table by bits, codebook and block.
#include "src/tensor/own_form.h"

#include "src/tensor/codebooks.h"

namespace outrigger {
namespace {

struct OwnType {
  DType type;
  int bits;
  OwnForm form;
};

constexpr OwnType kOwnTypes[] = {
    {DType::kO2, 2, {false, 64}},      {DType::kO3, 3, {false, 64}},      {DType::kO4, 4, {false, 64}},
    {DType::kN2, 2, {true, 64}},       {DType::kN3, 3, {true, 64}},       {DType::kN4, 4, {true, 64}},
    {DType::kO2_128, 2, {false, 128}}, {DType::kO3_128, 3, {false, 128}}, {DType::kO4_128, 4, {false, 128}},
    {DType::kN2_128, 2, {true, 128}},  {DType::kN3_128, 3, {true, 128}},  {DType::kN4_128, 4, {true, 128}},
};

const OwnType* find(DType type) {
  const auto* found = std::find_if(std::begin(kOwnTypes), std::end(kOwnTypes), [type](const OwnType& own) { return own.type == type; });
  return found == std::end(kOwnTypes) ? nullptr : found;
}

Codebook own_codebook(int bits) { return bits == 2 ? Codebook::kOwn2 : bits == 3 ? Codebook::kOwn3 : Codebook::kOwn4; }

}  // namespace

std::optional<DType> own_type(int bits, const OwnForm& form) {
  for (const OwnType& own : kOwnTypes) {
    if (own.bits == bits && own.form == form) return own.type;
  }
  return std::nullopt;
}

int own_bits(DType type) {
  const OwnType* const own = find(type);
  return own == nullptr ? 0 : own->bits;
}

OwnForm own_form(DType type) { return find(type)->form; }

OwnLevels::OwnLevels(int bits, bool has_codebook) : has_codebook_(has_codebook), count_(1 << bits) {
  const int8_t* const values = has_codebook ? codebook_values(own_codebook(bits)) : nullptr;
  const auto level = [values](int code) { return values == nullptr ? code : values[code]; };
  for (int code = 0; code < count_; ++code) codes_[level(code)] = static_cast<uint8_t>(code);
  for (int k = 1; k < count_; ++k) {
    rises_[k] = static_cast<float>(level(k) - level(k - 1));
    thresholds_[k] = static_cast<float>(level(k) + level(k - 1)) / 2;
  }
  top_ = static_cast<float>(level(count_ - 1));
}

}  // namespace outrigger
