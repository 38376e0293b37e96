#include "src/io/printable.h"

#include "tests/support/catch.h"

using outrigger::printable;

TEST_CASE("Ordinary text of any script is shown as it is") {
  REQUIRE(printable("") == "");
  REQUIRE(printable("blk.0.attn_q.weight") == "blk.0.attn_q.weight");
  REQUIRE(printable("caf\u00e9 \u4e2d\u6587 \U0001F600") == "caf\u00e9 \u4e2d\u6587 \U0001F600");
}

TEST_CASE("What would end a line or move a terminal's cursor is not passed on") {
  REQUIRE(printable("a\nb") == "a\\nb");
  REQUIRE(printable(std::string_view("a\0b\x1b[2J\x7f", 8)) == "a\ufffdb\ufffd[2J\ufffd");
}

TEST_CASE("Bytes of no character are shown as U+FFFD, one each, so that what is shown is well-formed") {
  REQUIRE(printable("\x80x") == "\ufffdx");
  REQUIRE(printable("\xc3") == "\ufffd");               // a character's first byte, and the end
  REQUIRE(printable("\xc0\xaf") == "\ufffd\ufffd");     // an overlong form
  REQUIRE(printable("\xed\xa0\x80") == "\ufffd\ufffd\ufffd");  // a surrogate
  REQUIRE(printable("\xf4\x90\x80\x80z") == "\ufffd\ufffd\ufffd\ufffdz");  // above U+10FFFF
}

TEST_CASE("A long text is cut between characters, and says so") {
  REQUIRE(printable("abcd", 4) == "abcd");
  REQUIRE(printable("abcde", 4) == "abcd...");
  REQUIRE(printable("\u4e2d\u6587\u5b57", 2) == "\u4e2d\u6587...");
  REQUIRE(printable(std::string(1000, 'x')).size() == 83);
}
