// What `bench` times: runs of a test, and what was to be expected of each.
#ifndef OUTRIGGER_SRC_TOOL_BENCH_RUNS_H_
#define OUTRIGGER_SRC_TOOL_BENCH_RUNS_H_

#include <outrigger/machine_profile.h>
#include <outrigger/session.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace outrigger::tool {

enum class BenchKind { kPrompt, kGenerate, kVerify };

struct BenchTest {
  BenchKind kind = BenchKind::kPrompt;
  uint32_t tokens = 0, depth = 0;
  uint32_t batch = 1;  ///< sessions that each have as many tokens; 1 unless it generates

  uint64_t all_tokens() const { return uint64_t{tokens} * batch; }

  std::string name() const;  ///< "pp512", "tg64", "verify8"
};

/// How many sessions one step goes on with.
uint32_t sessions_at_once(const Plan& plan, uint32_t batch);

/// Runs tests of random tokens on the first of some sessions, or in a batch on as many as that has.
class BenchRuns {
 public:
  BenchRuns(std::vector<Session>& sessions, uint32_t vocabulary, uint64_t seed);
  /// Nanoseconds of one run; the tokens before it are put in place untimed.
  Result<double> run(const BenchTest& test);

 private:
  Status generate(const std::vector<Token>& tokens, uint32_t batch);
  Status to_depth(Session& session, uint32_t depth);
  std::vector<Token> random_tokens(size_t count);

  std::vector<Session>& sessions_;
  std::mt19937_64 random_;
  std::uniform_int_distribution<Token> ids_;
};

/// What a plan says of tests at the rates of the moment. Keeps references to all that it is given.
class BenchPredictions {
 public:
  BenchPredictions(const Plan& plan, const StepShape& shape, const ProfileOptions& profile);
  /// The test in nanoseconds at this machine's rates, measured now: some 0.9 s.
  Result<double> measure(const BenchTest& test) const;

 private:
  Result<double> predicted_ms(const BenchTest& test, const MachineProfile& machine) const;

  const Plan& plan_;
  const StepShape& shape_;
  ProfileOptions profile_;
};

struct BenchSamples {
  std::vector<double> ns;
  std::vector<double> predicted_ns;  ///< of each; empty when nothing was predicted
};

/// `repeat` runs after one that warms up. Rates of a shared machine change within seconds, so each is compared with those just before and
/// just after it. `predictions` may be null.
Result<BenchSamples> measure(BenchRuns& runs, const BenchTest& test, uint32_t repeat, const BenchPredictions* predictions);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_BENCH_RUNS_H_
