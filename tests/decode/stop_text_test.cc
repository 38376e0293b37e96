// StopText: what is shown, what is held back.
#include "src/decode/stop_text.h"

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("StopText: without stop texts everything passes at once") {
  StopText stop({});
  CHECK(stop.push("abc") == "abc");
  CHECK(stop.finish() == "");
}

TEST_CASE("StopText: the beginning of a stop text is held back until it is decided") {
  StopText stop({"END"});
  CHECK(stop.push("the E") == "the ");
  CHECK(stop.push("N") == "");
  CHECK(stop.push("ough") == "ENough");
  CHECK(stop.push("EEN") == "E");
  CHECK(stop.push("D and more") == "");
  CHECK(stop.stopped());
  CHECK(stop.finish() == "");
}

TEST_CASE("StopText: the earliest of several ends the text, and empty ones are ignored") {
  StopText stop({"", "cd", "bcd"});
  CHECK(stop.push("abcde") == "a");
  CHECK(stop.stopped());
}

TEST_CASE("StopText: what was held back comes at the end") {
  StopText stop({"\n\n"});
  CHECK(stop.push("line\n") == "line");
  CHECK(stop.finish() == "\n");
  CHECK(!stop.stopped());
}

}  // namespace
}  // namespace outrigger
