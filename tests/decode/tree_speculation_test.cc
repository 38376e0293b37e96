// Speculation with trees: whatever their form and whoever guesses, the tokens are those of plain decoding, and so is all that a caller can
// see.
#include <chrono>
#include <random>
#include <thread>

#include "tests/decode/seen.h"
#include "tests/support/allocations.h"
#include "tests/support/device_plans.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/streaming_setup.h"

namespace outrigger::testing {
namespace {

/// How much of what will come is in a tree, among guesses that are all wrong.
enum class Truth { kNone, kSome, kAll };

/// Proposes trees of chance forms, with what it was told will come on one of their paths. Stands for itself.
class TreeScript final : public DraftSource {
 public:
  TreeScript(std::vector<Token> text, Truth truth, uint32_t seed, bool is_certain = true)
      : text_(std::move(text)), truth_(truth), random_(seed), is_certain_(is_certain) {}

  uint32_t tree_width() const override { return 5; }
  bool is_certain() const override { return is_certain_; }
  Status propose(std::span<const Token>, uint32_t, const CancelToken&, Draft*) override {
    return Status(StatusCode::kInternal, "a chain was asked for");
  }
  Status propose_tree(std::span<const Token> tokens, const DraftSize& size, const CancelToken&, Draft* draft) override {
    ++calls;
    if (on_call) on_call();
    const size_t true_depth = truth_ == Truth::kNone ? 0 : truth_ == Truth::kAll ? size.depth : random_() % (size.depth + 1);
    size_t level_begin = 0, true_node = 0;
    for (size_t depth = 0; depth < size.depth; ++depth) {
      const size_t level_end = draft->tree().size(), at = tokens.size() + depth, left = size.tokens - draft->tokens().size();
      if (left == 0 || at >= text_.size()) break;
      const size_t count = std::min<size_t>(left, 1 + random_() % size.width), true_place = random_() % count;
      const bool has_true = depth < true_depth;
      size_t next_true = 0;
      for (size_t i = 0; i < count; ++i) {
        const bool is_true = has_true && i == true_place;
        const size_t parent = is_true ? true_node : level_begin + random_() % (level_end - level_begin);
        draft->add_under(parent, is_true ? text_[at] : (text_[at] + 1 + static_cast<Token>(i)) % 100);
        if (is_true) next_true = draft->tokens().size();
      }
      true_node = next_true;
      level_begin = level_end;
    }
    REQUIRE(draft->tokens().size() <= size.tokens);
    return {};
  }

  uint64_t calls = 0;
  std::function<void()> on_call;

 private:
  std::vector<Token> text_;
  Truth truth_;
  std::mt19937 random_;
  bool is_certain_;
};

DraftOptions tree_of(uint32_t tokens) { return {DraftKind::kNgram, "", tokens, DraftShape::kTree}; }

// Plain, and then with trees in each size: the same, and the session goes on in the same way.
void check_same(const Engine& engine, const GenerateOptions& options, uint32_t context = 0, std::vector<uint32_t> sizes = {2, 5, 7}) {
  const Seen plain = generated(engine, options, context);
  const std::vector<Token> text = whole_text(engine, options, context);
  for (const uint32_t tokens : sizes) {
    for (const Truth truth : {Truth::kNone, Truth::kSome, Truth::kAll}) {
      CAPTURE(tokens, static_cast<int>(truth));
      GenerateOptions drafted = options;
      drafted.draft = tree_of(tokens);
      const Seen seen = scripted(engine, drafted, std::make_unique<TreeScript>(text, truth, tokens), context);
      CHECK(seen.tokens == plain.tokens);
      CHECK(seen.session == plain.session);
      CHECK(seen.text == plain.text);
      CHECK(seen.calls == plain.calls);
      CHECK(seen.reason == plain.reason);
      CHECK((seen.logits == plain.logits));
      CHECK(seen.goes_on == plain.goes_on);
      if (truth == Truth::kNone) CHECK(seen.accepted == 0);
      if (truth == Truth::kAll && plain.tokens.size() > 8) CHECK(seen.accepted > 0);
    }
  }
}

TEST_CASE("Trees: greedy text is the plain one for trees that are right, wrong and in between, of every family") {
  for (const char* name : {"smollm", "odd-f32", "tied-q4_1", "llama3-mixed", "qwen2", "qwen3-yarn", "qwen2moe", "qwen3moe"}) {
    CAPTURE(name);
    check_same(open_engine(tiny(name), {.batch = 2}), plain_options());
  }
  check_same(open_engine(tiny(), {.logit_rows = 32}), plain_options(100), 0, {13, 24, 31});
}

TEST_CASE("Trees: the same with keys and values of every type") {
  for (const KvType type : {KvType::kF32, KvType::kQ8_0}) {
    check_same(open_engine(tiny(type == KvType::kQ8_0 ? "q8_0-one-layer" : "smollm"), {.logit_rows = 16, .kv_type = type}), plain_options(),
               0, {15});
  }
}

TEST_CASE("Trees: the same where layers of keys and values are on disk") {
  const ScratchFolder scratch;
  const Model several = write_and_open(scratch, random_dense());
  for (const auto& [model, spilled] : {std::pair(tiny(), 1u), std::pair(several, 1u), std::pair(several, several.info().layers)}) {
    CAPTURE(spilled);
    const Engine engine = open_engine(model, {.batch = 2, .logit_rows = 16, .kv_spilled_layers = spilled});
    check_same(engine, plain_options(60), 0, {4, 15});
    CHECK(engine.streamed().kv_written_bytes > 0);
  }
}

TEST_CASE("Trees: the same where weights or experts come from disk") {
  const ScratchFolder scratch;
  for (const Model& model : {write_and_open(scratch, random_dense()), tiny("qwen3moe")}) {
    CAPTURE(model.info().architecture);
    const EngineSetup setup = streaming_setup(model);
    const Engine engine = open_engine(model, setup);
    CHECK(engine.plan().decode.streamed_bytes + engine.plan().decode.expert_bytes > 0);
    check_same(engine, plain_options(24));
    CHECK(engine.memory().host.peak_bytes <= setup.host_bytes);
  }
}

TEST_CASE("Trees: most tokens, and a context that ends, are kept inside a tree") {
  const Engine engine = open_engine(tiny());
  for (const uint32_t most : {1u, 2u, 3u, 5u, 6u, 9u}) {
    CAPTURE(most);
    check_same(engine, plain_options(most));
  }
  for (const uint32_t context : {9u, 10u, 12u, 15u, 16u, 17u, 19u}) {
    CAPTURE(context);
    check_same(engine, plain_options(), context);
  }
}

TEST_CASE("Trees: a stop text and a token that ends the text end a tree where they end plain decoding") {
  const Engine engine = open_engine(tiny());
  const Seen plain = generated(engine, plain_options());
  for (const size_t at : {5, 14}) {
    GenerateOptions options = plain_options();
    options.stop = {plain.text.substr(at, 3)};
    CHECK(generated(engine, options).reason == StopReason::kStop);
    check_same(engine, options);
  }
  // Sampled, so that the end comes at many places; what stands for itself has the plain text for a seed.
  int ended = 0;
  for (uint64_t seed = 1; seed < 60 && ended < 4; ++seed) {
    GenerateOptions options;
    options.max_tokens = 60;
    options.sampling = {.temperature = 3, .seed = seed};
    if (generated(engine, options).reason != StopReason::kEos) continue;
    ++ended;
    CAPTURE(seed);
    check_same(engine, options);
  }
  CHECK(ended > 0);
}

TEST_CASE("Trees: cancelling by the callback leaves what plain decoding leaves") {
  const Engine engine = open_engine(tiny());
  for (const int last : {1, 2, 4, 7, 11}) {
    CAPTURE(last);
    int left = 0;
    GenerateOptions options = plain_options();
    options.on_token = [&](const GeneratedToken&) { return --left > 0; };
    left = last;
    const Seen plain = generated(engine, options);
    const std::vector<Token> text = whole_text(engine, options);
    options.draft = tree_of(7);
    left = last;
    CHECK(scripted(engine, options, std::make_unique<TreeScript>(text, Truth::kAll, 3)) == plain);
  }
}

TEST_CASE("Trees: cancelled in the middle of a step, they keep what was made before and go on from there") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const EngineSetup setup = streaming_setup(model);
  const Engine engine = open_engine(model, setup);
  const std::vector<Token> text = whole_text(engine, plain_options());
  int stopped_inside = 0;
  for (int delay_us = 0; delay_us < 30000 && stopped_inside < 8; delay_us += 100) {
    Session session = must(Session::open(engine));
    GenerateOptions options = plain_options();
    options.draft = tree_of(7);
    SpeculativeDecoder decoder =
        must(SpeculativeDecoder::with_source(session.impl(), options, std::make_unique<TreeScript>(text, Truth::kSome, 1)));
    std::thread stopper([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      options.cancel.cancel();
    });
    const GenerateResult result = must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
    stopper.join();
    stopped_inside += result.stop_reason == StopReason::kCancelled && !result.tokens.empty();
    const size_t held = session.tokens().size();
    REQUIRE(std::equal(session.tokens().begin(), session.tokens().end(), text.begin()));
    if (held < kPrompt.size() || held >= kPrompt.size() + 30) continue;
    must(session.truncate(static_cast<uint32_t>(held - 1)));
    CHECK(must(session.generate(std::vector<Token>{text[held - 1]}, plain_options(5))).tokens ==
          std::vector<Token>(text.begin() + static_cast<ptrdiff_t>(held), text.begin() + static_cast<ptrdiff_t>(held + 5)));
  }
  CHECK(stopped_inside > 0);
}

TEST_CASE("Trees: logits that a session goes on with are bit for bit those of a session that never had one") {
  const Engine engine = open_engine(tiny(), {.batch = 2, .logit_rows = 32});
  const std::vector<Token> text = whole_text(engine, plain_options(60));
  Session plain = must(Session::open(engine)), session = must(Session::open(engine));
  GenerateOptions options = plain_options(60);
  options.draft = tree_of(31);
  SpeculativeDecoder decoder =
      must(SpeculativeDecoder::with_source(session.impl(), options, std::make_unique<TreeScript>(text, Truth::kAll, 9)));
  const GenerateResult result = must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
  CHECK(result.speculation.tree_passes + 1 >= result.speculation.passes);
  CHECK(result.speculation.tokens_per_pass > 4);
  must(session.step(9));
  must(plain.prefill(session.tokens()));
  CHECK(std::equal(plain.logits().begin(), plain.logits().end(), session.logits().begin(), session.logits().end()));
}

TEST_CASE("Trees: what is reported adds up") {
  const Engine engine = open_engine(tiny(), {.logit_rows = 16});
  const std::vector<Token> text = whole_text(engine, plain_options());
  Session session = must(Session::open(engine));
  GenerateOptions options = plain_options();
  options.draft = tree_of(15);
  SpeculativeDecoder decoder =
      must(SpeculativeDecoder::with_source(session.impl(), options, std::make_unique<TreeScript>(text, Truth::kSome, 2)));
  const GenerateResult result = must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
  const SpeculationReport& report = result.speculation;
  CHECK(report.passes + report.accepted == result.tokens.size() - 1);
  uint64_t accepted = 0, drafted = 0;
  for (size_t i = 0; i < kMostDraftTokens; ++i) {
    CHECK(report.accepted_at[i] <= report.drafted_at[i]);
    accepted += report.accepted_at[i], drafted += report.drafted_at[i];
  }
  CHECK(accepted == report.accepted);
  CHECK(drafted < report.drafted);
  CHECK(report.tree_passes > 0);
  uint64_t chain_accepted = 0;
  for (size_t i = 0; i < kMostDraftTokens; ++i) {
    CHECK(report.chain_accepted_at[i] <= report.chain_drafted_at[i]);
    CHECK(report.chain_drafted_at[i] <= report.drafted_at[i]);
    CHECK(report.chain_accepted_at[i] <= report.accepted_at[i]);
    chain_accepted += report.chain_accepted_at[i];
  }
  CHECK(report.chain_drafted_at[0] == report.drafted_at[0]);
  // What is true is somewhere in a level of this draft, not first.
  CHECK(chain_accepted < accepted);
  CHECK(chain_accepted > 0);
}

TEST_CASE("Trees: a draft's trunk is everyone's first guess, and ends where a node is on another path") {
  Draft draft(6, 0);
  CHECK(draft.trunk(0).depth == 0);
  // 0 - 1 - 3 - 6, whose branches are 2 - 4 and, under 1, 5.
  for (const size_t parent : {0, 0, 1, 2, 1, 3}) draft.add_under(parent, static_cast<Token>(draft.tree().size()));
  const std::array<uint32_t, 7> shared = {0, 1, 0, 2, 0, 1, 3};
  for (size_t node = 0; node < shared.size(); ++node) {
    CAPTURE(node);
    CHECK(draft.trunk(node).depth == 3);
    CHECK(draft.trunk(node).shared == shared[node]);
  }
}

TEST_CASE("Trees: n-grams draft them, and greedy or drawn the text for a seed is the plain one") {
  for (const char* name : {"smollm", "qwen3moe"}) {
    const Engine engine = open_engine(tiny(name), {.logit_rows = 17});
    uint64_t trees = 0, accepted = 0;
    for (const float temperature : {0.0f, 0.3f, 1.0f}) {
      GenerateOptions options = plain_options(120);
      options.sampling = {.temperature = temperature, .top_k = 20, .repeat_penalty = temperature == 0.3f ? 1.1f : 1.0f, .seed = 9};
      const std::vector<Token> plain = generated(engine, options).tokens;
      for (const uint32_t tokens : {0u, 2u, 6u, 16u}) {
        CAPTURE(name, temperature, tokens);
        options.draft = tree_of(tokens);
        Session session = must(Session::open(engine));
        const GenerateResult result = must(session.generate(kPrompt, options));
        CHECK(result.tokens == plain);
        trees += result.speculation.tree_passes, accepted += result.speculation.accepted;
      }
    }
    CHECK(trees > 0);
    CHECK(accepted > 0);
  }
}

TEST_CASE("Trees: the same wherever layers' attention is computed, with keys and values of every type") {
  const ScratchFolder scratch;
  const PlaceOf everywhere[] = {
      [](const MatrixShape&) { return Place::kDevice; },
      [](const MatrixShape&) { return Place::kStreamed; },
      [](const MatrixShape& matrix) { return matrix.layer % 2 == 1 ? Place::kDevice : Place::kHost; },
  };
  for (const Model& model : {tiny("tied-q4_1"), write_and_open(scratch, random_dense())}) {
    for (const KvType type : {KvType::kF16, KvType::kF32}) {
      for (const PlaceOf& place_of : everywhere) {
        const Plan plan = placed_on_device(must(plan_for(model, {.logit_rows = 16, .kv_type = type})), must(model.step_shape()), place_of);
        check_same(open_on_device(model, plan, "emulated:memory=64MiB,link=20GB/s,latency=0us"), plain_options(40), 0, {4, 15});
      }
    }
  }
}

TEST_CASE("Trees: passes allocate nothing once they are under way") {
  const Engine engine = open_engine(tiny(), {.logit_rows = 17});
  for (const float temperature : {0.0f, 1.0f}) {
    Session session = must(Session::open(engine));
    must(session.prefill(kPrompt));
    GenerateOptions options = plain_options();
    options.sampling = {.temperature = temperature, .seed = 2};
    options.draft = tree_of(16);
    SpeculativeDecoder decoder = must(SpeculativeDecoder::create(session.impl(), options));
    NextTokens next;
    next.tokens.reserve(kMostDraftTokens + 1);
    const CancelToken cancel;
    bool is_ok = true;
    uint64_t before = 0;
    for (int pass = 0; pass < 13; ++pass) {
      if (pass == 3) before = heap_allocations();
      is_ok = is_ok && decoder.next(16, cancel, &next).is_ok();
      const size_t base = session.impl().tokens.size();
      session.impl().tokens.insert(session.impl().tokens.end(), next.tokens.begin(), next.tokens.end());
      session.impl().computed = static_cast<uint32_t>(base + next.in_cache);
    }
    const uint64_t during = heap_allocations() - before;
    CHECK(is_ok);
    CHECK(during == 0);
  }
}

TEST_CASE("Trees: shapes and sizes that mean nothing are refused by name") {
  const auto refused = [](const DraftOptions& options, const char* what) {
    const Status status = options.validate();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find(what) != std::string::npos);
  };
  refused({DraftKind::kNgram, "", 0, static_cast<DraftShape>(3)}, "draft.shape");
  refused({DraftKind::kNgram, "", 32, DraftShape::kTree}, "draft.tokens");
  refused({DraftKind::kNgram, "", 17, DraftShape::kAuto}, "draft.tokens");
  must(tree_of(31).validate());
  CHECK(std::string(draft_shape_name(DraftShape::kTree)) == "tree");
}

}  // namespace
}  // namespace outrigger::testing
