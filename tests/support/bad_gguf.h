// The catalogue of malformed models that tests/golden/make_bad_gguf.py writes, for every test that opens them.
#ifndef OUTRIGGER_TESTS_SUPPORT_BAD_GGUF_H_
#define OUTRIGGER_TESTS_SUPPORT_BAD_GGUF_H_

#include <outrigger/status.h>

#include <string>
#include <string_view>
#include <vector>

namespace outrigger {

/// One malformed file and the error it must give.
struct BadGguf {
  std::string file;    ///< path
  std::string level;   ///< "container": refused by GgufFile::open; "model": only when the model is opened
  std::string code;    ///< as status_code_name gives it
  std::string text;    ///< what the error must contain; alternatives separated by |
  std::string offset;  ///< the byte offset; "*" any but 0; "-" not stated
};

/// The rows of one level from `folder`, which the script has filled. The test fails if there are none.
std::vector<BadGguf> bad_ggufs(const std::string& folder, std::string_view level);

/// Nothing if the status is what the row wants, else what is wrong with it.
std::string difference(const BadGguf& want, const Status& got);

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_BAD_GGUF_H_
