// head_divergence: what HeadLoss says with the whole head in memory, whatever the slices.
#include "src/forward/head_divergence.h"

#include <outrigger/pack.h>

#include <cmath>

#include "src/forward/float_matrix.h"
#include "src/training/head_loss.h"
#include "tests/support/engines.h"
#include "tests/support/heap_watch.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_inputs.h"

namespace outrigger::testing {
namespace {

constexpr size_t kTokens = 70;  // more than are taken at once

TEST_CASE("head_divergence: slices of the head, packed or not, give what all of it does, by any number of threads") {
  const ScratchFolder scratch;
  for (const DenseKind kind : {DenseKind::kLlama, DenseKind::kLlamaUntied}) {
    const Model plain = write_and_open(scratch, random_dense(kind));
    must(pack_model(plain, scratch / "packed.gguf"));
    const Model packed = must(Model::open(scratch / "packed.gguf"));
    const ModelLayout& layout = *plain.impl()->layout;
    const uint64_t width = layout.config.width;
    const std::vector<float> p = random_matrix(kTokens, width, 1, 0.3f), q = random_matrix(kTokens, width, 2, 0.3f);
    const auto team = must(ThreadTeam::create(2)), one = must(ThreadTeam::create(1)), three = must(ThreadTeam::create(3));
    const LeasedVector<float> head = must(read_matrix(plain.impl()->file.source(), layout.weights[layout.head]));
    const double expected = HeadLoss(head, layout.vocabulary, width, *team).divergence(p, q, nullptr);
    REQUIRE(expected > 0.5);
    for (const uint64_t rows : {uint64_t{16}, uint64_t{48}, uint64_t{192}, kHeadSliceRows}) {
      CAPTURE(rows);
      const double got = must(head_divergence(*plain.impl(), p, q, *team, rows));
      CHECK(std::abs(got / expected - 1) < 1e-5);
      CHECK(must(head_divergence(*packed.impl(), p, q, *one, rows)) == got);
      CHECK(must(head_divergence(*plain.impl(), p, q, *three, rows)) == got);
    }
    CHECK(std::abs(must(head_divergence(*plain.impl(), p, p, *team))) < 1e-12);
    const uint64_t before = heap_bytes();
    restart_heap_peak();
    must(head_divergence(*plain.impl(), p, q, *team));
    const uint64_t counted = head_divergence_bytes(layout, kTokens), taken = heap_peak_bytes() - before;
    CAPTURE(counted, taken);
    CHECK(taken < counted + 2048);       // the allocator's rounding
    CHECK(counted < taken + taken / 3);  // of one slice the file's bytes are gone before it is packed
  }
}

}  // namespace
}  // namespace outrigger::testing
