// Reads what tests/golden/make_families.py wrote beside each tiny model: greedy tokens, texts with their token ids, a conversation.
#ifndef OUTRIGGER_TESTS_SUPPORT_GOLDEN_TEXT_H_
#define OUTRIGGER_TESTS_SUPPORT_GOLDEN_TEXT_H_

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>

#include "tests/support/catch.h"

namespace outrigger::testing {

/// A tiny model of each family with its oracle.
inline constexpr const char* kFamilies[] = {"tinyllama", "smollm", "llama3",     "mistral", "llama-biases", "qwen2",
                                            "qwen3",     "qwen3-yarn", "mixtral", "qwen2moe", "qwen3moe",     "qwen3moe-raw"};

inline nlohmann::json golden_json(const std::string& path_in_golden) {
  const std::string path = std::string(OTR_SOURCE_DIR) + "/tests/golden/" + path_in_golden;
  INFO(path);
  std::ifstream in(path);
  REQUIRE(in.good());
  return nlohmann::json::parse(in);
}

inline nlohmann::json golden_text(const std::string& name) { return golden_json("logits/" + name + ".json"); }

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_GOLDEN_TEXT_H_
