// JsonText: what is JSON and what is not, against an independent parser, and reading what was accepted.
#include "src/io/json_text.h"

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

Result<JsonText> parse(std::string text) { return JsonText::parse(std::move(text), "memory"); }

std::string problem(std::string text, uint64_t offset) {
  const Status status = parse(std::move(text)).status();
  INFO(status.to_string());
  CHECK(status.code() == StatusCode::kCorruptFile);
  CHECK(status.byte_offset() == offset);
  CHECK(status.file() == "memory");
  return status.message();
}

const std::vector<std::string> kSeeds = {
    R"({"a":1,"b":[true,false,null],"c":{"q":"x\n\u00e9\ud83d\ude00","w":[[],{}]}})",
    R"([-0.5e-3, 12E+7, 0, -0, 1.25, "\"\\\/\b\f\r\t", "gr\u00fc\u00df", "日本", ""])",
    R"(  {"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}  )",
};

TEST_CASE("JsonText: what it takes and refuses is what another parser does, for every single byte changed, dropped or doubled") {
  static constexpr std::string_view kBytes = "{}[]\",:\\u0/nte-+.E \x01\x7f\xc3\xa9\xed\xf5";
  int taken = 0, refused = 0;
  const auto compare = [&](const std::string& text) {
    const bool ours = parse(text).is_ok(), theirs = nlohmann::json::accept(text);
    if (ours != theirs) FAIL(text << (ours ? " was taken" : " was refused"));
    ++(ours ? taken : refused);
  };
  for (const std::string& seed : kSeeds) {
    for (size_t i = 0; i < seed.size(); ++i) {
      for (const char byte : kBytes) {
        std::string text = seed;
        text[i] = byte;
        compare(text);
      }
      compare(seed.substr(0, i));
      compare(seed.substr(0, i) + seed.substr(i + 1));
      compare(seed.substr(0, i) + seed[i] + seed.substr(i));
    }
  }
  CHECK(taken > 500);
  CHECK(refused > 5000);
}

TEST_CASE("JsonText: texts put together at random from pieces of JSON are judged as another parser does") {
  static const std::vector<std::string> kPieces = {"{", "}", "[",  "]",  ",",    ":",    "\"a\"", "\"\"",      "1",
                                                   "-", "0", ".5", "e9", "true", "null", " ",     "\"\\u12\"", "\"\\ud800\""};
  std::mt19937 random(7);
  int taken = 0;
  for (int i = 0; i < 200000; ++i) {
    std::string text;
    for (size_t n = random() % 8; n > 0; --n) text += kPieces[random() % kPieces.size()];
    const bool ours = parse(text).is_ok(), theirs = nlohmann::json::accept(text);
    // The same key twice is the one thing they disagree on.
    if (ours != theirs && parse(text).status().message().find("twice") == std::string::npos) FAIL(text);
    taken += ours;
  }
  CHECK(taken > 1000);
}

TEST_CASE("JsonText: every error has its place") {
  CHECK(problem("", 0).find("ends") != std::string::npos);
  CHECK(problem("{\"a\" 1}", 5).find("':'") != std::string::npos);
  CHECK(problem("[1,]", 3).find("a value") != std::string::npos);
  CHECK(problem("[1 2]", 3).find("',' or ']'") != std::string::npos);
  CHECK(problem("{\"a\":1,}", 7).find("key") != std::string::npos);
  CHECK(problem("[01]", 2).find("',' or ']'") != std::string::npos);
  CHECK(problem("nul", 0).find("a value") != std::string::npos);
  CHECK(problem("\"ab", 3).find("end of a string") != std::string::npos);
  CHECK(problem("[\"\x1f\"]", 2).find("control character 31") != std::string::npos);
  CHECK(problem("[\"a\xff\"]", 3).find("UTF-8") != std::string::npos);
  CHECK(problem("\xef\xbb\xbf{}", 0).find("0xef") != std::string::npos);
  CHECK(problem("{} x", 3).find("end of the text") != std::string::npos);
  CHECK(problem("[\"\\udc00\"]", 2).find("surrogate") != std::string::npos);
}

TEST_CASE("JsonText: a key twice in one object is refused, however it is spelled, and in another object is not") {
  CHECK(problem(R"({"a":1,"b":2,"a":3})", 13).find("\"a\" appears twice, first at byte 1") != std::string::npos);
  CHECK(problem(R"([{"x":{"key":1,"k\u0065y":2}}])", 15).find("twice") != std::string::npos);
  CHECK(parse(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]})").is_ok());
}

TEST_CASE("JsonText: nesting is taken to its limit and refused beyond, and a million brackets cost no stack") {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(parse(nested(kJsonMaxDepth)).is_ok());
  CHECK(problem(nested(kJsonMaxDepth + 1), kJsonMaxDepth).find("nested") != std::string::npos);
  CHECK(problem(std::string(1000000, '['), kJsonMaxDepth).find("nested") != std::string::npos);
}

TEST_CASE("JsonText: 300,000 keys are checked in time that is proportional to sorting them") {
  std::string text = "{";
  for (int i = 0; i < 300000; ++i) text += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
  const JsonText json = parse(text + "}").value();
  CHECK(json.root().find("299999")->whole() == 0u);
  CHECK(problem(text + ",\"77\":0}", text.size() + 1).find("\"77\" appears twice") != std::string::npos);
}

TEST_CASE("JsonValue: every member, item and scalar is what another parser finds") {
  for (const std::string& seed : kSeeds) {
    const JsonText json = parse(seed).value();
    const std::function<nlohmann::json(JsonValue)> rebuild = [&](JsonValue value) {
      nlohmann::json out;
      switch (value.kind()) {
        case JsonKind::kObject:
          out = nlohmann::json::object();
          REQUIRE(value
                      .each_member([&](std::string_view key, JsonValue member) {
                        CHECK(value.find(key)->raw() == member.raw());
                        return out[std::string(key)] = rebuild(member), Status();
                      })
                      .is_ok());
          break;
        case JsonKind::kArray:
          out = nlohmann::json::array();
          REQUIRE(value.each_item([&](JsonValue item) { return out.push_back(rebuild(item)), Status(); }).is_ok());
          break;
        case JsonKind::kString:
          out = *value.string();
          break;
        case JsonKind::kNumber:
          out = *value.number();
          break;
        case JsonKind::kBool:
          out = *value.boolean();
          break;
        case JsonKind::kNull:
          break;
      }
      return out;
    };
    CHECK(rebuild(json.root()) == nlohmann::json::parse(seed));
  }
}

TEST_CASE("JsonValue: what is not of a kind is nothing, not a guess") {
  const JsonText json =
      parse(R"({"n":-1,"f":1.5,"big":18446744073709551615,"more":18446744073709551616,"huge":1e999,"e":1e2,"s":"1","t":true,"z":null})")
          .value();
  const JsonValue root = json.root();
  CHECK_FALSE(root.find("n")->whole());
  CHECK(root.find("n")->number() == -1.0);
  CHECK_FALSE(root.find("f")->whole());
  CHECK(root.find("big")->whole() == UINT64_MAX);
  CHECK_FALSE(root.find("more")->whole());
  CHECK_FALSE(root.find("huge")->number());
  CHECK_FALSE(root.find("e")->whole());
  CHECK(root.find("e")->number() == 100.0);
  CHECK_FALSE(root.find("s")->number());
  CHECK_FALSE(root.find("t")->string());
  CHECK(root.find("t")->boolean() == true);
  CHECK(root.find("z")->is_null());
  CHECK_FALSE(root.find_value("z"));
  CHECK_FALSE(root.find("absent"));
  CHECK_FALSE(root.find("n")->find("x"));
  CHECK(root.offset() == 0);
  CHECK(root.find("f")->offset() == 12);
  const Status status = root.find("s")->wrong("s", "a number");
  CHECK(status.message() == "s: got \"1\", need a number");
  CHECK(status.byte_offset() == root.find("s")->offset());
}

}  // namespace
}  // namespace outrigger
