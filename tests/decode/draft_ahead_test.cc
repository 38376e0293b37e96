// Drafts that go on while they are verified: the same tokens as without, used where the text came to what was guessed.
#include <outrigger/speculation.h>

#include <atomic>
#include <functional>
#include <thread>

#include "src/decode/draft_model.h"
#include "src/decode/generation.h"
#include "src/decode/session_impl.h"
#include "src/decode/speculative_decoder.h"
#include "tests/decode/drafted_batches.h"
#include "tests/support/few_cases.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 14, 15, 92, 65};
const auto kNever = [] { return false; };

/// A session with a draft model, and what it says without one.
struct Drafting {
  SimilarDraft files;
  Engine engine;
  Session session;

  explicit Drafting(float noise) : files(noise), engine(engine_with(files, {.batch = 1})), session(must(Session::open(engine))) {
    must(session.prepare_draft({DraftKind::kModel, files.draft, 8}));
  }
  DraftModel& model() { return *session.impl().draft_model; }
  ModelDraft source(const SamplingOptions& sampling = {}) { return {model(), must(Sampler::create(sampling)), sampling}; }
  GenerateOptions options(const SamplingOptions& sampling = {}, uint32_t tokens = 40) const {
    GenerateOptions options;
    options.max_tokens = tokens;
    options.ignore_eos = true;
    options.sampling = sampling;
    return options;
  }
  std::vector<Token> plain() {
    must(session.truncate(0));
    return must(session.generate(kPrompt, options())).tokens;
  }
  GenerateResult drafted(std::unique_ptr<DraftSource> source, GenerateOptions options) {
    must(session.truncate(0));
    options.draft = {DraftKind::kModel, files.draft, 4};
    SpeculativeDecoder decoder = must(SpeculativeDecoder::with_source(session.impl(), options, std::move(source)));
    return must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
  }
};

std::vector<Token> proposed(ModelDraft& source, const std::vector<Token>& text, uint32_t most) {
  Draft draft(kMostDraftTokens, 0);
  must(source.propose(text, most, {}, &draft));
  return {draft.tokens().begin(), draft.tokens().end()};
}

std::vector<Token> part(const std::vector<Token>& tokens, size_t begin, size_t count) {
  return {tokens.begin() + static_cast<ptrdiff_t>(begin), tokens.begin() + static_cast<ptrdiff_t>(begin + count)};
}

TEST_CASE("Draft ahead: a text that came to what was guessed has the tokens that were made, and as many more as are wanted") {
  Drafting drafting(0);
  const std::vector<Token> plain = drafting.plain();
  for (const uint32_t ahead : {0u, 1u, 3u, 5u, 8u}) {
    for (const uint32_t most : {1u, 3u, 5u, 8u}) {
      CAPTURE(ahead, most);
      ModelDraft source = drafting.source();
      std::vector<Token> text = kPrompt;
      size_t said = 0;
      for (int pass = 0; pass < 3 && said + 2 * most + 2 < plain.size(); ++pass) {
        CHECK(proposed(source, text, most) == part(plain, said, most));
        must(source.draft_ahead(ahead, kNever));
        const std::vector<Token> more = part(plain, said, most + 1);  // all of it, and the token behind
        text.insert(text.end(), more.begin(), more.end());
        said += more.size();
        // All but the last one of what was made are in its cache already.
        if (ahead > 0) CHECK(drafting.model().session().tokens().size() == text.size() + ahead - 1);
      }
      CHECK(said > most);
    }
  }
}

TEST_CASE("Draft ahead: of a text that came to something else nothing is used, and drafts are those of one that was not ahead") {
  Drafting drafting(0.03f);
  for (const size_t accepted : {0u, 1u, 3u, 4u}) {
    CAPTURE(accepted);
    ModelDraft source = drafting.source();
    const std::vector<Token> first = proposed(source, kPrompt, 4);
    must(source.draft_ahead(3, kNever));
    std::vector<Token> text = kPrompt;
    text.insert(text.end(), first.begin(), first.begin() + static_cast<ptrdiff_t>(accepted));
    const std::vector<Token> held(drafting.model().session().tokens().begin(), drafting.model().session().tokens().end());
    const Token guessed = held[text.size()];
    text.push_back((guessed + 1) % 100);
    const std::vector<Token> got = proposed(source, text, 5);
    ModelDraft other = drafting.source();
    must(drafting.model().session().truncate(0));
    CHECK(got == proposed(other, text, 5));
  }
}

TEST_CASE("Draft ahead: a text that came to something else, and then by a plain step to the same length, has nothing of it either") {
  Drafting drafting(0.03f);
  for (const uint32_t most : {1u, 3u, 6u}) {
    CAPTURE(most);
    ModelDraft source = drafting.source();
    const std::vector<Token> first = proposed(source, kPrompt, 4);
    must(source.draft_ahead(3, kNever));
    std::vector<Token> text = kPrompt;
    text.insert(text.end(), first.begin(), first.end() - 1);
    text.push_back((first.back() + 1) % 100);
    text.push_back(7);
    must(source.read(text, {}));  // as before the first draft behind a plain step
    const std::vector<Token> got = proposed(source, text, most);
    ModelDraft other = drafting.source();
    must(drafting.model().session().truncate(0));
    CHECK(got == proposed(other, text, most));
    CHECK(got.size() == most);
  }
}

TEST_CASE("Draft ahead: stops when it is enough, at the end of the context, and does nothing without a chain") {
  Drafting drafting(0);
  ModelDraft source = drafting.source();
  must(source.draft_ahead(3, kNever));
  CHECK(drafting.model().session().tokens().empty());
  proposed(source, kPrompt, 4);
  must(source.draft_ahead(3, [] { return true; }));
  CHECK(drafting.model().session().tokens().size() == kPrompt.size() + 3);
  int asked = 0;
  must(source.draft_ahead(8, [&asked] { return ++asked > 4; }));
  CHECK(drafting.model().session().tokens().size() <= kPrompt.size() + 3 + 4);
  const std::vector<Token> most(drafting.model().session().context_tokens() - 4, 5);
  proposed(source, most, 4);
  must(source.draft_ahead(8, kNever));
  CHECK(drafting.model().session().tokens().size() <= drafting.model().session().context_tokens());
}

/// Goes ahead by three tokens after each draft, on the spot.
class Eager final : public DraftSource {
 public:
  Eager(Drafting& drafting, const SamplingOptions& sampling, uint64_t* hits)
      : model_(drafting.model()), inner_(drafting.source(draft_sampling(sampling))), hits_(hits) {}
  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) override {
    const std::span<const Token> held = model_.session().tokens();
    *hits_ += held.size() >= tokens.size() && std::equal(tokens.begin(), tokens.end(), held.begin());
    const Status status = inner_.propose(tokens, most, cancel, draft);
    return status.is_ok() ? inner_.draft_ahead(3, kNever) : status;
  }

 private:
  DraftModel& model_;
  ModelDraft inner_;
  uint64_t* hits_;
};

TEST_CASE("Draft ahead: greedy text is the plain one, and the better the draft the more often it had begun already") {
  uint64_t hits[3] = {};
  for (const size_t i : {0u, 1u, 2u}) {
    Drafting drafting(std::array{0.0f, 0.03f, 0.5f}[i]);
    const std::vector<Token> plain = drafting.plain();
    const GenerateResult result = drafting.drafted(std::make_unique<Eager>(drafting, SamplingOptions(), &hits[i]), drafting.options());
    CHECK(result.tokens == plain);
    CHECK(result.speculation.drafted > 0);
  }
  CHECK(hits[0] >= 6);
  CHECK(hits[0] >= hits[1]);
  CHECK(hits[1] >= hits[2]);
}

TEST_CASE("Draft ahead: drawn texts have the distribution of plain drawing") {
  Drafting drafting(0.1f);
  constexpr uint64_t kSamples = seeds(10000);
  DrawnTexts plain, drafted;
  uint64_t hits = 0;
  for (uint64_t i = 0; i < kSamples; ++i) {
    SamplingOptions sampling{.temperature = 8, .top_k = 2, .seed = 1 + i};
    must(drafting.session.truncate(0));
    plain[must(drafting.session.generate(kPrompt, drafting.options(sampling, 6))).tokens] += 1;
    sampling.seed += 100000;
    GenerateOptions options = drafting.options(sampling, 6);
    drafted[drafting.drafted(std::make_unique<Eager>(drafting, sampling, &hits), options).tokens] += 1;
  }
  CHECK(hits > kSamples / 20);
  const ChiSquare got = chi_square_of(plain, drafted);
  CHECK(got.outcomes > 32);
  CHECK(got.outcomes <= 64);
  CHECK(got.value < most_chi_square(got.outcomes));
}

/// Knows what will come, and goes ahead till the step is over.
class Oracle final : public DraftSource {
 public:
  struct Seen {
    std::atomic<int> inside = 0, ahead = 0, overlaps = 0;
    int fails_at = 0;
  };
  Oracle(std::vector<Token> text, Seen* seen) : text_(std::move(text)), seen_(seen) {}
  bool drafts_ahead() const override { return true; }
  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken&, Draft* draft) override {
    const Inside inside(seen_);
    for (size_t at = tokens.size(); at < text_.size() && draft->tokens().size() < most; ++at) draft->add(text_[at]);
    return {};
  }
  Status draft_ahead(uint32_t most, const std::function<bool()>& is_enough) override {
    const Inside inside(seen_);
    CHECK(most > 0);
    while (!is_enough()) std::this_thread::yield();
    return ++seen_->ahead == seen_->fails_at ? Status(StatusCode::kIo, "broken on purpose") : Status();
  }

 private:
  struct Inside {
    explicit Inside(Seen* seen) : seen_(seen) { seen_->overlaps += ++seen_->inside > 1; }
    ~Inside() { --seen_->inside; }
    Seen* seen_;
  };
  std::vector<Token> text_;
  Seen* seen_;
};

TEST_CASE("Draft ahead: who has a lane of its own goes ahead beside each step, till that is over, and never beside a draft") {
  Drafting drafting(0);
  const std::vector<Token> plain = drafting.plain();
  std::vector<Token> text = kPrompt;
  text.insert(text.end(), plain.begin(), plain.end());
  for (const int fails_at : {0, 1, 3}) {
    CAPTURE(fails_at);
    Oracle::Seen seen;
    seen.fails_at = fails_at;
    std::vector<Token> got;
    const std::vector<std::string> warnings =
        warnings_of([&] { got = drafting.drafted(std::make_unique<Oracle>(text, &seen), drafting.options()).tokens; });
    CHECK(got == plain);
    CHECK(seen.overlaps == 0);
    if (fails_at == 0) CHECK(seen.ahead > 4);
    if (fails_at > 0) CHECK(seen.ahead == fails_at);
    CHECK(warnings.size() == (fails_at > 0 ? 1 : 0));
  }
}

}  // namespace
}  // namespace outrigger::testing
