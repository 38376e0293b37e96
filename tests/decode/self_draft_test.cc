// Drafts with low-bit copies of what streams: the text is the plain one, every byte is the plan's, and whatever fails leaves nothing
// behind.
#include "src/decode/self_draft.h"

#include <outrigger/cancel.h>

#include <filesystem>
#include <map>

#include "src/decode/session_impl.h"
#include "src/decode/speculative_decoder.h"
#include "tests/support/allocations.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_mixture.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 14, 15, 92, 65, 35, 89, 79};

struct Wish {
  StandIns stand_ins = StandIns::kAsFit;
  uint64_t host_bytes = Budgets::kUnlimited;
  uint32_t draft_tokens = 7;
  uint32_t threads = 2;
  KvType kv_type = KvType::kF16;
  uint32_t kv_spilled_layers = 0;
};

Result<Plan> plan_with(const Model& model, const Wish& wish) {
  Workload workload;
  workload.context_tokens = 256;
  workload.prompt_tokens = workload.new_tokens = 128;
  workload.draft_tokens = wish.draft_tokens;
  workload.stand_ins = wish.stand_ins;
  workload.kv_type = wish.kv_type;
  workload.kv_spilled_layers = wish.kv_spilled_layers;
  return PlacementPlanner::plan(must(model.step_shape()), made_up_machine(wish.threads), {wish.host_bytes, 0}, workload);
}

uint64_t least_budget(const Model& model, Wish wish) {
  wish.host_bytes = 1;
  const Status status = plan_with(model, wish).status();
  INFO(status.to_string());
  REQUIRE(status.code() == StatusCode::kBudget);
  return status.needed_bytes();
}

Engine engine_with(const Model& model, const Wish& wish, const EngineOptions& options = {}) {
  return must(Engine::open(model, must(plan_with(model, wish)), options));
}

GenerateOptions options_for(const DraftOptions& draft, uint32_t tokens = 60) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  options.draft = draft;
  return options;
}

GenerateResult generated(const Engine& engine, const GenerateOptions& options) {
  Session session = must(Session::open(engine));
  return must(session.generate(kPrompt, options));
}

const DraftOptions kSelf{DraftKind::kSelf, "", 5};
const DraftOptions kSelfTree{DraftKind::kSelf, "", 7, DraftShape::kTree};

void check_ledger(const Engine& engine) {
  const Session session = must(Session::open(engine));
  const TierUse host = engine.memory().host;
  CHECK(host.current.draft == engine.plan().host.breakdown.draft);
  CHECK(host.current_bytes == host.planned_bytes);
  CHECK((host.budget_bytes == 0 || host.peak_bytes <= host.budget_bytes));
}

TEST_CASE("Self-draft: greedy text is the plain one for every family, budget, number of bits and length, and the ledger is the plan") {
  uint64_t rejected = 0, tree_passes = 0;
  for (const DenseKind kind : kDenseKinds) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_dense(kind));
    const std::vector<Token> plain = generated(engine_with(model, {StandIns::kNone}), options_for({})).tokens;
    for (const StandIns bits : {StandIns::kTwoBits, StandIns::kThreeBits, StandIns::kFourBits, StandIns::kAsFit}) {
      const uint64_t least = least_budget(model, {bits});
      for (const uint64_t extra : {0, 30'000, 120'000}) {
        CAPTURE(static_cast<int>(kind), static_cast<int>(bits), extra);
        const Engine engine = engine_with(model, {bits, least + extra});
        REQUIRE(engine.plan().self_draft_bits >= 2);
        if (bits != StandIns::kAsFit) CHECK(engine.plan().self_draft_bits == static_cast<uint32_t>(bits));
        check_ledger(engine);
        CHECK(engine.streamed().disk_bytes <= engine.plan().decode.streamed_bytes);  // the first units of a step that has not begun
        for (const uint32_t tokens : {1u, 5u, 0u}) {
          const GenerateResult result = generated(engine, options_for({DraftKind::kSelf, "", tokens}));
          CHECK(result.tokens == plain);
          CHECK(result.speculation.draft == DraftKind::kSelf);
          if (tokens == 5) CHECK(result.speculation.accepted > 0);
          rejected += result.speculation.drafted - result.speculation.accepted;
        }
        const GenerateResult by_trees = generated(engine, options_for(kSelfTree));
        CHECK(by_trees.tokens == plain);
        CHECK(by_trees.speculation.accepted > 0);
        tree_passes += by_trees.speculation.tree_passes;
        check_ledger(engine);
      }
    }
  }
  CHECK(rejected > 100);     // the copies are not the model
  CHECK(tree_passes > 100);  // nor always sure, where a tree would be a chain
}

TEST_CASE("Self-draft: float32 numerics, keys and values of other types or on disk, threads and bf16 weights change nothing") {
  uint64_t tree_passes = 0;
  for (const DenseKind kind : {DenseKind::kLlama, DenseKind::kLlamaBf16}) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_dense(kind));
    for (const Wish wish : {Wish{.threads = 3}, {.kv_type = KvType::kF32}, {.kv_type = KvType::kQ8_0}, {.kv_spilled_layers = 1}}) {
      for (const Numerics numerics : {Numerics::kFast, Numerics::kFloat32}) {
        CAPTURE(static_cast<int>(kind), wish.threads, static_cast<int>(wish.kv_type), wish.kv_spilled_layers, static_cast<int>(numerics));
        EngineOptions options;
        options.numerics = numerics;
        Wish none = wish, small = wish;
        none.stand_ins = StandIns::kNone;
        small.host_bytes = least_budget(model, wish);
        const Engine engine = engine_with(model, small, options);
        const std::vector<Token> plain = generated(engine_with(model, none, options), options_for({}, 40)).tokens;
        for (const DraftOptions& draft : {kSelf, kSelfTree}) {
          const GenerateResult result = generated(engine, options_for(draft, 40));
          CHECK(result.tokens == plain);
          CHECK(result.speculation.accepted > 0);
          CHECK((draft.shape == DraftShape::kTree || result.speculation.tree_passes == 0));
          tree_passes += result.speculation.tree_passes;
        }
        check_ledger(engine);
      }
    }
  }
  CHECK(tree_passes > 0);
}

TEST_CASE("Self-draft: copies are the same whatever the threads and the slots that they come through") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const uint64_t least = least_budget(model, {StandIns::kThreeBits});
  const auto copies_of = [&](const Engine& engine) {
    const StandInWeights& copies = *engine.impl()->stand_ins;
    std::map<std::string, std::vector<std::byte>> all;
    for (uint32_t i = 0; i < copies.layout().weights.size(); ++i) {
      const WeightSource& weight = copies.layout().weights[i];
      if (engine.plan().tensors[i].mode == Residence::kResident) continue;
      const std::byte* const at = copies.operand({i, 0, static_cast<uint32_t>(weight.blocks())});
      all[engine.plan().tensors[i].name].assign(at, at + packed_bytes(weight.kind, weight.rows, weight.columns));
    }
    return all;
  };
  const auto first = copies_of(engine_with(model, {StandIns::kThreeBits, least}));
  CHECK(first.size() > 10);
  for (const uint32_t threads : {1u, 3u, 4u}) {
    const Wish wish{.stand_ins = StandIns::kThreeBits, .threads = threads};
    Wish small = wish;
    small.host_bytes = least_budget(model, wish) + 20'000 * threads;
    const auto others = copies_of(engine_with(model, small));
    REQUIRE(!others.empty());
    for (const auto& [name, copy] : others) {
      CAPTURE(threads, name);
      CHECK((first.contains(name) && copy == first.at(name)));
    }
  }
}

// What a model proposes whose weights are the copies is what the copies propose, with the keys and values of what they read.
TEST_CASE("Self-draft: proposes what the copies say of a text that was read with the whole weights, and leaves nothing behind") {
  const ScratchFolder scratch;
  // Unsure of what follows, so that a tree has branches.
  const Model model = write_and_open(scratch, random_dense([](const std::string& name, std::vector<float>& values) {
    if (name != "token_embd.weight") return;
    for (float& value : values) value *= 0.2f;
  }));
  const Engine engine = engine_with(model, {StandIns::kTwoBits, least_budget(model, {StandIns::kTwoBits})});
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const std::vector<float> after(session.logits().begin(), session.logits().end());
  session.impl().computed -= 1;  // as between steps
  SelfDraft source(session.impl(), must(Sampler::create({})), {});
  Draft draft(6, 0);
  const uint64_t read = engine.streamed().disk_bytes;
  must(source.propose(session.impl().tokens, 6, {}, &draft));
  REQUIRE(draft.tokens().size() == 6);
  const uint64_t row_bytes = 64 * sizeof(float);  // of the tied embedding, which is not resident
  CHECK(engine.streamed().disk_bytes == read + 6 * row_bytes);
  CHECK(session.tokens().size() == kPrompt.size());
  // The first of them, from logits that are not the model's.
  const uint32_t only_row = 0;
  const SequenceSlice slice{&session.impl().cache, static_cast<uint32_t>(kPrompt.size() - 1), 0, 1};
  std::vector<float> drafted;
  must(engine.impl()->run_step({std::span(kPrompt).last(1), {&slice, 1}, {&only_row, 1}, 0, true}, {},
                               [&](size_t, std::span<const float> logits) { drafted.assign(logits.begin(), logits.end()); }));
  CHECK(std::max_element(drafted.begin(), drafted.end()) - drafted.begin() == draft.tokens()[0]);
  CHECK((drafted != after));
  // Of a tree the first level's likeliest token is the chain's, and what follows it, computed beside the others, too.
  Draft tree(15, 0);
  must(source.propose_tree(session.impl().tokens, {15, 6, kModelTreeWidth}, {}, &tree));
  CHECK(tree.tokens().size() > tree.depth());
  CHECK(session.tokens().size() == kPrompt.size());
  const size_t first = find_under(tree.tree(), tree.tokens(), 0, draft.tokens()[0]);
  REQUIRE(first != 0);
  CHECK(find_under(tree.tree(), tree.tokens(), first, draft.tokens()[1]) != 0);
  must(session.impl().compute({}, {}, {}));
  CHECK(std::equal(after.begin(), after.end(), session.logits().begin()));
}

TEST_CASE("Self-draft: auto drafts with the copies where nothing is drawn, and with n-grams where something is, as without them") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const Engine engine = engine_with(model, {StandIns::kFourBits, least_budget(model, {StandIns::kFourBits})}),
               plain = engine_with(model, {StandIns::kNone});
  GenerateOptions options = options_for({DraftKind::kAuto, "", 0});
  const GenerateResult greedy = generated(engine, options);
  CHECK(greedy.speculation.draft == DraftKind::kSelf);
  CHECK(greedy.speculation.draft_name == "self");
  CHECK(greedy.tokens == generated(plain, options_for({})).tokens);
  options.sampling = {.temperature = 1, .seed = 7};
  const GenerateResult drawn = generated(engine, options);
  CHECK(drawn.speculation.draft == DraftKind::kNgram);
  options.draft = {};
  CHECK(drawn.tokens == generated(plain, options).tokens);
}

TEST_CASE("Self-draft: where the text repeats itself auto copies from it, the copies draft elsewhere, and the text is the plain one") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const Engine engine = engine_with(model, {StandIns::kFourBits, least_budget(model, {StandIns::kFourBits})}),
               plain = engine_with(model, {StandIns::kNone});
  constexpr uint32_t kTokens = 200;  // a model of random weights says the same again soon
  const GenerateResult repeating = generated(engine, options_for({DraftKind::kAuto, "", 0}, kTokens));
  CHECK(repeating.tokens == generated(plain, options_for({}, kTokens)).tokens);
  CHECK(repeating.speculation.draft == DraftKind::kSelf);
  CHECK(repeating.speculation.quoted_passes > 0);
  CHECK(repeating.speculation.quoted_passes < repeating.speculation.passes);
  CHECK(generated(engine, options_for(kSelf, kTokens)).speculation.quoted_passes == 0);
}

TEST_CASE("Self-draft: a budget that is too small is refused with the least one, which does") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  for (const StandIns bits : {StandIns::kTwoBits, StandIns::kThreeBits, StandIns::kFourBits, StandIns::kAsFit}) {
    CAPTURE(static_cast<int>(bits));
    const uint64_t least = least_budget(model, {bits});
    const Status status = plan_with(model, {bits, least - 1}).status();
    CHECK(status.code() == StatusCode::kBudget);
    CHECK(status.needed_bytes() == least);
    CHECK(status.given_bytes() == least - 1);
    CHECK(status.message().find("copies of what streams") != std::string::npos);
    const Plan plan = must(plan_with(model, {bits, least}));
    CHECK(plan.host.planned_bytes <= least);
    CHECK(plan.minimum_host_bytes == least);
  }
  CHECK(least_budget(model, {StandIns::kAsFit}) == least_budget(model, {StandIns::kTwoBits}));
  CHECK(least_budget(model, {StandIns::kTwoBits}) < least_budget(model, {StandIns::kFourBits}));
}

TEST_CASE("Self-draft: as many bits as fit, and none where nothing streams, which cannot draft then") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  for (const uint32_t bits : {2u, 3u, 4u})
    CHECK(must(plan_with(model, {StandIns::kAsFit, least_budget(model, {static_cast<StandIns>(bits)})})).self_draft_bits == bits);
  const Engine engine = engine_with(model, {});
  CHECK(engine.plan().self_draft_bits == 0);
  Session session = must(Session::open(engine));
  const Status status = session.prepare_draft(kSelf);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message().find("no low-bit copies") != std::string::npos);
}

TEST_CASE("Self-draft: plans change under an open session, with copies and without, and a draft that they have no copies for is given up") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const uint64_t least = least_budget(model, {});
  Engine engine = engine_with(model, {StandIns::kAsFit, least});
  Session session = must(Session::open(engine)), plain = must(Session::open(engine_with(model, {StandIns::kNone})));
  for (const Wish wish : {Wish{StandIns::kTwoBits, least},
                          {StandIns::kNone, least},
                          {StandIns::kAsFit, least + 100'000},
                          {StandIns::kNone},
                          {StandIns::kAsFit, least}}) {
    CAPTURE(static_cast<int>(wish.stand_ins), wish.host_bytes);
    must(engine.replan(must(plan_with(model, wish))));
    const TierUse host = engine.memory().host;
    CHECK(host.current.draft == engine.plan().host.breakdown.draft);
    CHECK(host.current_bytes == host.planned_bytes);
    const DraftOptions draft = engine.plan().self_draft_bits > 0 ? kSelf : DraftOptions{};
    CHECK(must(session.generate(kPrompt, options_for(draft, 8))).tokens == must(plain.generate(kPrompt, options_for({}, 8))).tokens);
  }
  // In the middle of a generation.
  const Plan without = must(plan_with(model, {StandIns::kNone, least}));
  GenerateOptions options = options_for(kSelf, 40);
  int made = 0;
  options.on_token = [&](const GeneratedToken&) {
    if (++made == 10) must(engine.replan(without));
    return true;
  };
  for (Session* one : {&session, &plain}) must(one->truncate(0));
  const GenerateResult result = must(session.generate(kPrompt, options));
  CHECK(result.tokens == must(plain.generate(kPrompt, options_for({}, 40))).tokens);
  CHECK(result.speculation.drafted > 0);
  CHECK(result.speculation.passes > 25);  // one token each after the change
}

TEST_CASE("Self-draft: loading is told as one, can be cancelled while copies are made, and leaves nothing") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const Plan plan = must(plan_with(model, {StandIns::kFourBits, least_budget(model, {StandIns::kFourBits}) + 30'000}));
  std::vector<double> told;
  EngineOptions options;
  options.progress = [&](double share) {
    told.push_back(share);
    return true;
  };
  (void)must(Engine::open(model, plan, options));
  CHECK(std::is_sorted(told.begin(), told.end()));
  CHECK(told.back() == 1);
  uint64_t resident = 0, all = 0;
  for (const TensorPlacement& tensor : plan.tensors)
    all += tensor.file_bytes, resident += tensor.mode == Residence::kResident ? tensor.file_bytes : 0;
  const double copies_from = static_cast<double>(resident) / static_cast<double>(all);
  const auto first_of_copies =
      static_cast<size_t>(std::find_if(told.begin(), told.end(), [&](double share) { return share > copies_from; }) - told.begin());
  REQUIRE(first_of_copies + 1 < told.size());
  for (size_t stop = first_of_copies; stop < told.size(); ++stop) {
    CAPTURE(stop, told.size());
    size_t calls = 0;
    options.progress = [&](double) { return calls++ < stop; };
    CHECK(Engine::open(model, plan, options).status().code() == StatusCode::kCancelled);
    CHECK(calls == stop + 1);
    calls = 0;
    options.progress = [&](double) -> bool {
      if (calls++ < stop) return true;
      throw std::runtime_error("on purpose");
    };
    CHECK(Engine::open(model, plan, options).status().code() == StatusCode::kInternal);
    calls = 0;
    options.progress = [&](double) {
      if (calls++ == stop) options.cancel.cancel();
      return true;
    };
    options.cancel = CancelToken();
    if (stop + 1 < told.size()) CHECK(Engine::open(model, plan, options).status().code() == StatusCode::kCancelled);
    options.cancel = CancelToken();
  }
}

TEST_CASE("Self-draft: a file that changes while copies are made is an error, and the plan that follows is good") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const Plan plan = must(plan_with(model, {StandIns::kFourBits, least_budget(model, {StandIns::kFourBits})}));
  Engine engine = engine_with(model, {StandIns::kNone, plan.host.budget_bytes});
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const std::vector<Token> expected = generated(engine_with(model, {StandIns::kNone}), options_for({}, 12)).tokens;
  const std::filesystem::path path = scratch / "model.gguf";
  const auto bytes = std::filesystem::file_size(path);
  const auto time = std::filesystem::last_write_time(path);
  int calls = 0;
  const Status status = engine.replan(plan, [&](double share) {
    if (share > 0.5 && calls++ == 0) std::filesystem::last_write_time(path, time + std::chrono::seconds(2));
    return true;
  });
  CHECK(calls > 0);
  CHECK(status.code() == StatusCode::kIo);
  CHECK(session.step(1).code() == StatusCode::kUnavailable);
  std::filesystem::last_write_time(path, time);
  CHECK(std::filesystem::file_size(path) == bytes);
  must(engine.replan(plan));
  CHECK(engine.memory().host.current_bytes == engine.memory().host.planned_bytes);
  must(session.truncate(0));
  CHECK(must(session.generate(kPrompt, options_for(kSelf, 12))).tokens == expected);
}

TEST_CASE("Self-draft: passes allocate nothing once they are under way") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const Engine engine = engine_with(model, {StandIns::kFourBits, least_budget(model, {StandIns::kFourBits})});
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  SpeculativeDecoder decoder = must(SpeculativeDecoder::create(session.impl(), options_for(kSelf)));
  NextTokens next;
  next.tokens.reserve(kMostDraftTokens + 1);
  const CancelToken never;
  const auto pass = [&] {
    if (!decoder.next(8, never, &next).is_ok()) return false;
    const size_t base = session.impl().tokens.size();
    session.impl().tokens.insert(session.impl().tokens.end(), next.tokens.begin(), next.tokens.end());
    session.impl().computed = static_cast<uint32_t>(base + next.in_cache);
    return true;
  };
  for (int i = 0; i < 3; ++i) REQUIRE(pass());
  const uint64_t before = heap_allocations();
  bool is_ok = true;
  for (int i = 0; i < 6; ++i) is_ok = pass() && is_ok;
  const uint64_t during = heap_allocations() - before;
  CHECK(is_ok);
  CHECK(during == 0);
  CHECK(decoder.report().drafted > 20);
}

TEST_CASE("Self-draft: refused for mixtures and for rows that are no whole blocks, by name") {
  const ScratchFolder scratch;
  const Model mixture = write_and_open(scratch, random_mixture());
  const uint64_t small = smallest_budget(mixture, {}) + 60'000;
  const Status experts = plan_with(mixture, {StandIns::kAsFit, small}).status();
  CHECK(experts.code() == StatusCode::kUnsupported);
  CHECK(experts.message().find("mixture of experts") != std::string::npos);
  CHECK(must(plan_with(mixture, {StandIns::kAsItPays, small})).self_draft_bits == 0);
  const Model narrow = must(Model::open(tiny_model_path("llama3")));
  const Status rows = plan_with(narrow, {StandIns::kFourBits, smallest_budget(narrow, {}) + 20'000}).status();
  CHECK(rows.code() == StatusCode::kUnsupported);
  CHECK(rows.message().find("whole blocks of 64") != std::string::npos);
  CHECK(!rows.subject().empty());
}

}  // namespace
}  // namespace outrigger::testing
