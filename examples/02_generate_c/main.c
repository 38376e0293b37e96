/* Answers one prompt with at most 64 MiB of memory for the model, whatever the model's size: generate MODEL.gguf [PROMPT] */
#include <outrigger/outrigger.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static otr_error error = {.struct_size = sizeof(otr_error)};

/* An example may give up: the message is one line that says what was got, what is needed and what to do. */
static void must(otr_status status) {
  if (status == OTR_OK) return;
  fprintf(stderr, "%s: %s\n", otr_status_name(status), error.message);
  exit(status);
}

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static int32_t print_text(void* user, int32_t token, const char* text, size_t bytes) {
  (void)user;
  (void)token;
  fwrite(text, 1, bytes, stdout);
  return fflush(stdout); /* 0 goes on */
}

/* The plan as text: ask for its length, then for the text. */
static void print_plan(const otr_plan* plan) {
  size_t bytes = 0;
  char* text;
  must(otr_plan_to_text(plan, NULL, 0, &bytes, &error));
  text = malloc(bytes + 1);
  if (text == NULL) exit(OTR_OUT_OF_MEMORY);
  must(otr_plan_to_text(plan, text, bytes + 1, &bytes, &error));
  printf("%s\n", text);
  free(text);
}

int main(int argc, char** argv) {
  const char* prompt = argc > 2 ? argv[2] : "What is the capital of France, and what is it known for?";
  otr_model_info info = {.struct_size = sizeof info};
  otr_generate_result result = {.struct_size = sizeof result};
  otr_memory_report memory = {.struct_size = sizeof memory};
  otr_stream_report streamed = {.struct_size = sizeof streamed};
  otr_model* model = NULL;
  otr_plan* plan = NULL;
  otr_engine* engine = NULL;
  otr_session* session = NULL;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL.gguf [PROMPT]\n", argv[0]);
    return 2;
  }

  /* Opening reads the header only. */
  must(otr_model_open(argv[1], NULL, &model, &error));
  must(otr_model_get_info(model, &info, &error));
  const otr_chat_message message = {"user", prompt, strlen(prompt)};
  int32_t tokens[512];
  size_t count = 0;
  must(otr_model_chat(model, &message, 1, NULL, tokens, sizeof tokens / sizeof *tokens, &count, &error));

  /* Decide first: what stays in memory, what streams from disk, what that will cost. No weight is read for it. */
  otr_plan_options workload;
  otr_plan_options_init(&workload, sizeof workload);
  workload.host_budget_bytes = 64 << 20;
  workload.prompt_tokens = (uint32_t)count;
  workload.new_tokens = 64;
  must(otr_plan_make(model, NULL, &workload, &plan, &error));
  print_plan(plan);

  /* Then run: the engine takes what the plan says, and never more. */
  must(otr_engine_open(model, plan, NULL, &engine, &error));
  must(otr_session_open(engine, NULL, &session, &error));
  otr_generate_options options;
  otr_generate_options_init(&options, sizeof options);
  options.max_tokens = workload.new_tokens;
  options.on_token = print_text;
  must(otr_session_generate(session, tokens, count, &options, &result, &error));

  must(otr_engine_get_memory(engine, OTR_TIER_HOST, &memory, &error));
  must(otr_engine_get_streamed(engine, &streamed, &error));
  printf("\n\n%d tokens, %.1f per second\n", (int)result.generated_tokens, result.decode_tokens_per_s);
  printf("model file %.1f MiB; memory: budget %.1f MiB, planned %.1f MiB, peak %.1f MiB; read from disk %.1f MiB\n", mib(info.bytes),
         mib(memory.budget_bytes), mib(memory.planned_bytes), mib(memory.peak_bytes), mib(streamed.disk_bytes));

  otr_session_close(&session);
  otr_engine_close(&engine);
  otr_plan_close(&plan);
  otr_model_close(&model);
  return 0;
}
