// Branches, or more bits: what is said of files whose distances are made up.
#include "src/tool/comparison.h"

#include "tests/support/catch.h"

namespace outrigger::tool {
namespace {

// Of four chunks, some easier than others for all files alike.
Mean kl_around(double mean, double apart = 0.001) {
  Mean kl;
  for (const double chunk : {-0.3, -0.1, 0.1, 0.3}) {
    kl.add(mean + chunk * mean + (chunk > 0 ? apart : -apart));
    kl.end_group();
  }
  return kl;
}

ComparedFile bare(const char* file, uint64_t bytes, double kl) { return {file, bytes, 0, bytes, kl_around(kl), {}}; }

ComparedFile branched(const char* file, uint64_t bytes, uint64_t branch_bytes, uint64_t read, double kl, double bare_kl) {
  return {file, bytes, branch_bytes, bytes + read, kl_around(kl), kl_around(bare_kl)};
}

TEST_CASE("What branches recover is a part of the least distance that as many bytes have without any") {
  const ComparedFile twin = branched("twin", 1000, 200, 200, 0.3, 0.8);
  CHECK(recovered_by(twin, {twin})->share.value == Approx(1 - 0.3 / 0.8));
  CHECK(recovered_by(twin, {twin})->of == "twin");
  const ComparedFile nearer = bare("nearer", 1005, 0.5);
  const auto recovered =
      recovered_by(twin, {bare("farther", 1000, 0.9), nearer, twin, bare("larger", 1100, 0.2), branched("other", 1000, 1, 1, 0.1, 0.1)});
  CHECK(recovered->share.value == Approx(1 - 0.3 / 0.5));
  CHECK(recovered->of == "nearer");
  CHECK(!recovered_by(nearer, {nearer, twin}));
}

TEST_CASE("A file is behind the nearest of those with no more bytes, unless it is nearer than all of them") {
  const std::vector<ComparedFile> files = {bare("two", 1000, 0.8), branched("branch", 1000, 400, 100, 0.4, 0.8), bare("mixed", 1390, 0.3),
                                           bare("three", 1600, 0.1)};
  const auto stored = standings(files, stored_bytes);
  CHECK(!stored[0].behind);
  REQUIRE(stored[1].behind == 2);  // some fewer bytes, and nearer
  CHECK(stored[1].farther.value == Approx(0.1));
  CHECK(stored[1].differs());
  CHECK(!stored[2].behind);
  CHECK(!stored[3].behind);
  for (const Standing& by_reads : standings(files, read_bytes)) CHECK(!by_reads.behind);
  CHECK(verdict_text(files).starts_with("nearest for the bytes stored: two, mixed, three; branch is farther than mixed by 0.1000 +- "));
  CHECK(verdict_text(files).ends_with("\nnearest for the bytes that a token reads: two, branch, mixed, three\n"));
}

TEST_CASE("Files whose distances are the same within their errors do not differ, and the one with fewer bytes is before the other") {
  std::vector<ComparedFile> files = {bare("more", 1100, 0.398), bare("fewer", 1000, 0.4)};
  files[0].kl = kl_around(0.398, 0.05);
  CHECK(verdict_text(files).starts_with("nearest for the bytes stored: fewer; more does not differ from fewer\n"));
  files[0].backbone_bytes = 1000;  // as many: the nearer one
  CHECK(verdict_text(files).starts_with("nearest for the bytes stored: more; fewer does not differ from more\n"));
  files[0].kl = files[1].kl;
  CHECK(verdict_text(files).starts_with("nearest for the bytes stored: more; fewer does not differ from more\n"));
}

}  // namespace
}  // namespace outrigger::tool
