// Answers one prompt with at most 64 MiB of memory for the model, whatever the model's size: generate MODEL.gguf [PROMPT]
#include <outrigger/engine.h>
#include <outrigger/machine_profile.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/session.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

using namespace outrigger;

// An example may give up: the message is one line that says what was got, what is needed and what to do.
template <typename T>
T must(Result<T> result) {
  if (!result.is_ok()) {
    std::fprintf(stderr, "%s\n", result.status().to_string().c_str());
    std::exit(static_cast<int>(result.status().code()));
  }
  return std::move(result).value();
}

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL.gguf [PROMPT]\n", argv[0]);
    return 2;
  }
  const std::string path = argv[1];
  const std::string prompt = argc > 2 ? argv[2] : "What is the capital of France, and what is it known for?";

  // Opening reads the header only.
  const Model model = must(Model::open(path));
  const Tokenizer tokenizer = must(model.tokenizer());
  const std::vector<ChatMessage> conversation = {{"user", prompt}};
  const std::vector<Token> tokens = must(tokenizer.chat(conversation));

  // Decide first: what stays in memory, what streams from disk, what that will cost. No weight is read for it.
  const MachineProfile machine = must(measure_machine({.disk_path = path, .seconds_per_lane = 0.05}));
  const Budgets budgets = {.host_bytes = 64 << 20};
  const Workload workload = {.prompt_tokens = static_cast<uint32_t>(tokens.size()), .new_tokens = 64};
  const Plan plan = must(PlacementPlanner::plan(must(model.step_shape()), machine, budgets, workload));
  std::printf("%s\n", plan_to_text(plan).c_str());

  // Then run: the engine takes what the plan says, and never more.
  const Engine engine = must(Engine::open(model, plan));
  Session session = must(Session::open(engine));
  GenerateOptions options;
  options.max_tokens = workload.new_tokens;
  options.on_token = [](const GeneratedToken& made) {
    std::fwrite(made.text.data(), 1, made.text.size(), stdout);
    return std::fflush(stdout) == 0;
  };
  const GenerateResult result = must(session.generate(tokens, options));

  const TierUse host = engine.memory().host;
  std::printf("\n\n%zu tokens (%s), %.1f per second; the plan said %.1f\n", result.tokens.size(), stop_reason_name(result.stop_reason),
              result.timings.decode_tokens_per_s, plan.predicted_decode_tokens_per_s);
  std::printf("model file %.1f MiB; memory: budget %.1f MiB, planned %.1f MiB, peak %.1f MiB; read from disk %.1f MiB\n",
              mib(model.info().bytes), mib(host.budget_bytes), mib(host.planned_bytes), mib(host.peak_bytes),
              mib(engine.streamed().disk_bytes));
  return 0;
}
