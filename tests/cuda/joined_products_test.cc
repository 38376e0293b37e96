// Products that are launched together.
#include "cuda/device/joined_products.h"

#include "tests/support/catch.h"

namespace outrigger::cuda {
namespace {

// A window's second matrix begins behind the first one's rows, in the same rows of results.
struct Window {
  float results[1000];
  std::byte panel[64];

  MatmulArgs product(size_t first, size_t rows, size_t tokens = 3, size_t stride = 300) {
    MatmulArgs args{};
    args.kind = PackedKind::kQ4_1, args.rows = rows, args.columns = 64, args.panel = panel;
    args.dst = results + first, args.dst_stride = stride, args.tokens = tokens;
    return args;
  }
};

TEST_CASE("joined products: those of a window wait for each other, up to four") {
  Window window;
  JoinedProducts joined;
  REQUIRE(joined.is_empty());
  REQUIRE(joined.add(window.product(0, 100)));
  REQUIRE(joined.add(window.product(100, 50)));
  REQUIRE(joined.add(window.product(150, 50)));
  REQUIRE(joined.add(window.product(200, 100)));
  REQUIRE_FALSE(joined.add(window.product(900, 10, 1)));
  const std::span<const MatmulArgs> all = joined.take();
  REQUIRE(all.size() == 4);
  REQUIRE(all[2].dst == window.results + 150);
  REQUIRE(joined.is_empty());
}

TEST_CASE("joined products: what differs in anything but its matrix and its results is launched alone") {
  Window window;
  JoinedProducts joined;
  REQUIRE(joined.add(window.product(0, 100)));
  REQUIRE_FALSE(joined.add(window.product(100, 50, 2)));
  const auto refused = [&](auto change) {
    MatmulArgs other = window.product(100, 50);
    change(other);
    return !joined.add(other);
  };
  REQUIRE(refused([](MatmulArgs& args) { args.kind = PackedKind::kQ4_0; }));
  REQUIRE(refused([](MatmulArgs& args) { args.columns = 32; }));
  REQUIRE(refused([](MatmulArgs& args) { args.panel += 64; }));
  REQUIRE(refused([](MatmulArgs& args) { args.panel = nullptr; }));
  REQUIRE(joined.take().size() == 1);
}

TEST_CASE("joined products: results that overlap are not joined, in either order") {
  Window window;
  for (const auto& [first, second] : {std::pair{window.product(0, 100), window.product(99, 50)},
                                      {window.product(100, 50), window.product(51, 50)},
                                      {window.product(0, 100), window.product(0, 100)},
                                      {window.product(0, 100), window.product(250, 51)},
                                      {window.product(0, 100), window.product(100, 50, 3, 200)}}) {
    JoinedProducts joined;
    REQUIRE(joined.add(first));
    REQUIRE_FALSE(joined.add(second));
  }
  JoinedProducts joined;
  REQUIRE(joined.add(window.product(0, 100)));
  REQUIRE(joined.add(window.product(700, 100)));  // behind the first one's last row
}

}  // namespace
}  // namespace outrigger::cuda
