"""`outrigger run` on a model of one layer: the document, the three ways to give prompts, plans, budgets, Ctrl-C."""
import json
import pathlib
import subprocess
import time

import tool
from tool import BUDGET, CORRUPT_FILE, INTERRUPTED, INVALID_ARGUMENT, NOT_FOUND, UNSUPPORTED, ToolTest, interrupt, interrupt_once_busy, start, valid

TIMINGS = {"prefill_ms": 0.0, "prefill_tokens_per_s": 0.0, "time_to_first_token_ms": 0.0, "decode_ms": 0.0, "decode_tokens_per_s": 0.0}
TIER = {"budget_bytes": 0, "planned_bytes": 0, "peak_bytes": 0}
GENERATION = {"prompt_tokens": [], "tokens": [], "text": "", "stop_reason": "", "timings": TIMINGS}
SHARED = {"memory": {"host": TIER, "device": TIER}, "streamed": {"disk_bytes": 0, "h2d_bytes": 0, "d2h_bytes": 0, "kv_read_bytes": 0, "kv_written_bytes": 0},
          "plan": {"predicted_prefill_ms": 0.0, "predicted_decode_tokens_per_s": 0.0, "alternatives": []},
          "speculation": {"draft": "", "passes": 0, "drafted": 0, "accepted": 0, "expected_accepted": 0.0, "tokens_per_pass": 0.0,
                          "draft_ms": 0.0, "verify_ms": 0.0, "auto_off": False, "ms_per_token_drafted": 0.0, "ms_per_token_plain": 0.0,
                          "tree_passes": 0, "quoted_passes": 0, "drafted_at": [], "accepted_at": []},
          "model": {"file": "", "architecture": "", "parameters": 0, "bytes": 0}, "seed": 0}
GREEDY = ("-n", "16", "--temp", "0", "--ignore-eos")


class Draft(ToolTest):
    LONG = ("-n", "48", "--ignore-eos")

    def test_greedy_and_with_a_seed_no_draft_that_stands_for_itself_changes_a_token(self):
        for sampling in (("--temp", "0"), ("--temp", "0.7", "--seed", "5")):
            args = ("-p", "then the rain then the rain", *self.LONG, *sampling)
            plain = self.document("run", valid(), *args, "--draft", "none")
            self.assertEqual(plain["speculation"]["draft"], "none")
            self.assertEqual(plain["speculation"]["passes"], 0)
            for draft in (("--draft", "auto"), ("--draft", "ngram"), ("--draft", "ngram", "--draft-tokens", "3"), ()):
                with self.subTest(sampling=sampling, draft=draft):
                    document = self.document("run", valid(), *args, *draft)
                    self.assertEqual(document["tokens"], plain["tokens"])
                    self.assertEqual(document["text"], plain["text"])
                    self.assertEqual(document["speculation"]["draft"], "ngram")
                    self.check_report(document)

    def test_a_model_drafts_within_the_budget(self):
        args = ("-p", "then the rain", *self.LONG, "--temp", "0")
        plain = self.document("run", valid(), *args, "--draft", "none")
        document = self.document("run", valid(), *args, "--draft", valid(), "--draft-tokens", "4")
        self.assertEqual(document["tokens"], plain["tokens"])
        self.check_report(document)
        report = document["speculation"]
        self.assertEqual(report["draft"], str(valid()))
        self.assertEqual(report["accepted"], report["drafted"])  # it is the model itself
        self.assertGreater(report["tokens_per_pass"], 4)
        host = document["memory"]["host"]
        self.assertGreater(host["peak_bytes"], plain["memory"]["host"]["peak_bytes"])
        self.assertLessEqual(host["peak_bytes"], host["planned_bytes"])
        planned = self.document("plan", valid(), "--draft", valid(), "--draft-tokens", "4", "--workload", "prompt=64,new=64")
        self.assertGreater(planned["tiers"]["host"]["breakdown"]["draft"], 0)
        self.assertEqual(planned["draft"]["kind"], "model")
        self.assertEqual(planned["draft"]["tokens"], 4)
        # A draft with no room beside the model is refused with what both need.
        least = self.document("plan", valid(), "--draft", "none", "--workload", "prompt=64,new=64")["minimum"]["host_bytes"]
        error = self.refuse(BUDGET, "plan", valid(), "--draft", valid(), "--host-budget", str(least), "--workload", "prompt=64,new=64", naming="draft")
        self.assertEqual(error["given_bytes"], least)
        self.assertGreaterEqual(error["needed_bytes"], least + planned["tiers"]["host"]["breakdown"]["draft"])

    def test_drafts_in_trees_change_no_token(self):
        for draft, tokens in (("ngram", "16"), (valid(), "31"), (valid(), "5"), ("auto", "auto")):
            with self.subTest(draft=str(draft), tokens=tokens):
                args = ("-p", "then the rain then the sun", *self.LONG, "--temp", "0")
                plain = self.document("run", valid(), *args, "--draft", "none")
                document = self.document("run", valid(), *args, "--draft", draft, "--draft-tokens", tokens, "--draft-shape", "tree")
                self.assertEqual(document["tokens"], plain["tokens"])
                report = document["speculation"]
                self.assertLessEqual(report["tree_passes"], report["passes"])
                self.assertEqual(sum(report["accepted_at"]), report["accepted"])
                if tokens == "31":
                    self.assertGreater(report["tree_passes"], 0)
                    self.assertLessEqual(len(report["drafted_at"]), 11)

    def test_drawn_text_of_a_fixed_draft_comes_again_with_its_seed(self):
        args = ("-p", "then the rain", *self.LONG, "--temp", "1", "--seed", "4", "--draft", valid(), "--draft-tokens", "3")
        self.assertEqual(self.document("run", valid(), *args)["tokens"], self.document("run", valid(), *args)["tokens"])

    def test_prompts_and_a_plan_that_is_replayed(self):
        path = tool.options.scratch / "prompts.jsonl"
        path.write_text('{"prompt": "a b a b a b", "n": 20}\n{"prompt": "then the rain then the", "n": 30}\n')
        args = ("--prompts", path, "--temp", "0", "--ignore-eos")
        plain, drafted = (self.document("run", valid(), *args, "--draft", draft) for draft in ("none", "ngram"))
        self.assertEqual([one["tokens"] for one in drafted["results"]], [one["tokens"] for one in plain["results"]])
        self.assertEqual(drafted["speculation"]["passes"] + drafted["speculation"]["accepted"], 19 + 29)
        path = tool.options.scratch / "draft-plan.json"
        path.write_text(json.dumps(self.document("plan", valid(), "--draft", "none", "--workload", "prompt=16,new=16")))
        replayed = self.document("run", valid(), "-p", "a", "-n", "4", "--plan", path)
        self.assertEqual(replayed["speculation"]["draft"], "none")  # auto, without room
        self.refuse(INVALID_ARGUMENT, "run", valid(), "-p", "a", "-n", "4", "--plan", path, "--draft", "ngram", naming="draft")

    def test_a_person_is_told(self):
        err = self.succeed("run", valid(), "-p", "then the rain", *self.LONG, "--temp", "0", "--draft", valid(), "--draft-tokens", "4").err
        self.assertRegex(err, r"draft .*valid.gguf: (\d+) of \1 tokens accepted, \d\.\d\d tokens a step")

    def test_a_draft_that_cannot_pay_is_left_out_unless_it_is_insisted_on(self):
        # As large as its target, and before each draft it reads the prompt.
        args = ("run", valid(), "-p", "then the rain", *self.LONG, "--temp", "0")
        self.assertRegex(self.succeed(*args, "--draft", valid()).err, r"the draft is left out: .* \d+\.\d\d s .* \d+\.\d\d s without")
        plain, left_out, drafted = (self.document(*args, "--draft", *draft) for draft in (("none",), (valid(),), (valid(), "--draft-tokens", "4")))
        self.assertEqual(left_out["tokens"], plain["tokens"])
        self.assertEqual(drafted["tokens"], plain["tokens"])
        told = left_out["speculation"]
        self.assertEqual((told["draft"], told["drafted"], told["auto_off"]), ("none", 0, True))
        self.assertGreater(told["ms_per_token_drafted"], told["ms_per_token_plain"])
        self.assertFalse(plain["speculation"]["auto_off"])
        self.assertGreater(drafted["speculation"]["drafted"], 0)

    def test_drafts_that_cannot_be(self):
        args = ("run", valid(), "-p", "a", "-n", "4")
        self.refuse(UNSUPPORTED, *args, "--draft", "self", naming="no branches")
        self.refuse(NOT_FOUND, *args, "--draft", "nowhere.gguf", naming="nowhere.gguf")
        other = pathlib.Path(__file__).resolve().parents[1] / "golden" / "logits" / "smollm.gguf"
        self.refuse(INVALID_ARGUMENT, *args, "--draft", other, naming="vocabulary")
        broken = tool.options.scratch / "broken.gguf"
        broken.write_bytes(valid().read_bytes()[:2000])
        self.refuse(CORRUPT_FILE, *args, "--draft", broken, naming="broken.gguf")

    def check_report(self, document):
        report = document["speculation"]
        self.assertEqual(report["passes"] + report["accepted"], len(document["tokens"]) - 1)
        self.assertAlmostEqual(report["tokens_per_pass"], (len(document["tokens"]) - 1) / report["passes"], places=6)
        # A tree has more tokens than depths; one is drafted where times as measured speak for it.
        (self.assertLess if report["tree_passes"] > 0 else self.assertEqual)(sum(report["drafted_at"]), report["drafted"])
        self.assertEqual(sum(report["accepted_at"]), report["accepted"])
        self.assertEqual(report["auto_off"], report["ms_per_token_plain"] > 0)
        self.assertEqual(report["auto_off"], report["ms_per_token_drafted"] > 0)
        self.assertGreater(report["draft_ms"], 0)
        self.assertGreater(report["verify_ms"], report["draft_ms"] if report["draft"] == "ngram" else 0)
        self.assertLessEqual(report["draft_ms"] + report["verify_ms"], document["timings"]["decode_ms"])


class Run(ToolTest):
    def test_the_document(self):
        document = self.document("run", valid(), "-p", "then the rain", *GREEDY)
        self.check_fields(document, {**GENERATION, **SHARED})
        self.check_fields(document["timings"], {"load_ms": 0.0})
        self.assertEqual(len(document["tokens"]), 16)
        self.assertEqual(document["stop_reason"], "length")
        self.assertEqual(document["prompt_tokens"], self.document("tokenize", valid(), "then the rain", "--special")["ids"])
        host = document["memory"]["host"]
        self.assertLessEqual(host["peak_bytes"], host["planned_bytes"])
        self.assertEqual(document["model"]["bytes"], valid().stat().st_size)

    def test_the_text_is_what_the_document_says(self):
        document = self.document("run", valid(), "-p", "then the rain", *GREEDY)
        outcome = self.succeed("run", valid(), "-p", "then the rain", *GREEDY)
        self.assertEqual(outcome.out, document["text"])
        self.assertIn("tokens/s", outcome.err)
        self.assertEqual(self.succeed("run", valid(), "-p", "then the rain", *GREEDY, "--progress", "none").err, "")

    def test_a_seed_draws_the_same_again_and_is_told_when_none_is_given(self):
        drawn = self.document("run", valid(), "-p", "a", "-n", "24", "--ignore-eos")
        again = self.document("run", valid(), "-p", "a", "-n", "24", "--ignore-eos", "--seed", drawn["seed"])
        self.assertEqual(drawn["tokens"], again["tokens"])
        other = self.document("run", valid(), "-p", "a", "-n", "24", "--ignore-eos", "--seed", drawn["seed"] + 1)
        self.assertNotEqual(drawn["tokens"], other["tokens"])

    def test_threads_and_reading_past_the_page_cache_change_no_token(self):
        expected = self.document("run", valid(), "-p", "then the rain", *GREEDY)["tokens"]
        for more in (("--threads", "1"), ("--threads", "2"), ("--disk-direct", "off")):
            self.assertEqual(self.document("run", valid(), "-p", "then the rain", *GREEDY, *more)["tokens"], expected)

    def test_a_prompt_from_a_file_or_from_stdin_is_the_same_prompt(self):
        path = tool.options.scratch / "prompt"
        path.write_text("then the rain")
        expected = self.document("run", valid(), "-p", "then the rain", *GREEDY)["tokens"]
        self.assertEqual(self.document("run", valid(), "-f", path, *GREEDY)["tokens"], expected)
        self.assertEqual(self.document("run", valid(), "-f", "-", *GREEDY, input="then the rain")["tokens"], expected)

    def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(self):
        text = self.document("run", valid(), "-p", "then the rain", *GREEDY)["text"]
        stop = text[4:7]
        document = self.document("run", valid(), "-p", "then the rain", *GREEDY, "--stop", "never in it", "--stop", stop)
        self.assertEqual(document["stop_reason"], "stop")
        self.assertEqual(document["text"], text[:text.index(stop)])
        self.assertEqual(self.succeed("run", valid(), "-p", "then the rain", *GREEDY, "--stop", stop).out, text[:text.index(stop)])

    def test_arguments_beyond_their_range(self):
        for more, name in ((("--temp", "-1"), "temperature"), (("--temp", "nan"), "temperature"), (("--top-p", "2"), "top_p"),
                           (("--min-p", "-0.1"), "min_p"), (("--top-k", "-1"), "top_k"), (("--repeat-penalty", "0"), "repeat_penalty"),
                           (("--ctx", "3"), "--ctx"), (("--ctx", "4096"), "128")):
            with self.subTest(more=more):
                self.refuse(INVALID_ARGUMENT, "run", valid(), "-p", "then the rain", *more, naming=name)
        self.refuse(INVALID_ARGUMENT, "run", valid(), "-p", "the " * 200, naming="128")

    def test_a_context_that_is_full_ends_the_answer(self):
        document = self.document("run", valid(), "-p", "then", "-n", "1000", "--temp", "0", "--ignore-eos")
        self.assertEqual(document["stop_reason"], "length")
        self.assertLessEqual(len(document["prompt_tokens"]) + len(document["tokens"]), 129)
        self.assertGreaterEqual(len(document["prompt_tokens"]) + len(document["tokens"]), 128)

    def test_chat_needs_a_template_that_is_known(self):
        self.refuse(UNSUPPORTED, "run", valid(), "--chat", "-p", "a", naming="chatml")
        self.refuse(UNSUPPORTED, "run", valid(), "--chat", "--chat-template", "martian", "-p", "a", naming="llama-2")


class Budget(ToolTest):
    def test_too_small_a_budget_tells_the_smallest_which_works_and_gives_the_same_tokens(self):
        args = ("run", valid(), "-p", "then the rain", *GREEDY)
        expected = self.document(*args, "--host-budget", "0")
        self.assertEqual(expected["memory"]["host"]["budget_bytes"], 0)
        minimum = self.refuse(BUDGET, *args, "--host-budget", "1KiB")["minimum_bytes"]
        tight = self.document(*args, "--host-budget", str(minimum))
        self.assertEqual(tight["tokens"], expected["tokens"])
        self.assertLessEqual(tight["memory"]["host"]["peak_bytes"], minimum)
        self.assertGreater(tight["streamed"]["disk_bytes"], 0)
        self.assertEqual(expected["streamed"]["disk_bytes"], 0)
        self.refuse(BUDGET, *args, "--host-budget", str(minimum - 1))

    def test_a_share_is_one_of_what_the_process_can_get(self):
        half = self.document("plan", valid(), "--host-budget", "45%")["tiers"]["host"]["budget_bytes"]
        default = self.document("plan", valid())["tiers"]["host"]["budget_bytes"]
        self.assertAlmostEqual(half / default, 0.5, delta=0.2)  # other processes take and give memory meanwhile

    def test_a_plan_is_replayed_as_it_was_printed(self):
        args = ("-p", "then the rain", *GREEDY)
        minimum = self.refuse(BUDGET, "plan", valid(), "--host-budget", "1KiB", "--workload", "prompt=16,new=16")["minimum_bytes"]
        printed = self.document("plan", valid(), "--host-budget", str(minimum), "--workload", "prompt=16,new=16")
        path = tool.options.scratch / "plan.json"
        path.write_text(json.dumps(printed))
        replayed = self.document("run", valid(), *args, "--plan", path)
        self.assertEqual(replayed["tokens"], self.document("run", valid(), *args)["tokens"])
        self.assertEqual(replayed["memory"]["host"]["budget_bytes"], minimum)
        self.assertEqual(replayed["memory"]["host"]["planned_bytes"], printed["tiers"]["host"]["planned_bytes"])
        printed["tensors"][0]["bytes"] += 1
        path.write_text(json.dumps(printed))
        self.refuse(INVALID_ARGUMENT, "run", valid(), *args, "--plan", path, naming="plan.json")
        path.write_text("no plan")
        self.refuse(INVALID_ARGUMENT, "run", valid(), *args, "--plan", path, naming="plan.json")


class Prompts(ToolTest):
    def write(self, *lines):
        path = tool.options.scratch / "prompts.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    def test_each_gets_what_it_would_get_alone(self):
        path = self.write('{"prompt": "then the rain", "n": 5}', "", '{"prompt": "on", "other": 1}', '{"prompt": "then the rain"}')
        document = self.document("run", valid(), "--prompts", path, *GREEDY)
        self.check_fields(document, {"results": [], "timings": {**TIMINGS, "load_ms": 0.0, "total_tokens_per_s": 0.0}, **SHARED})
        self.assertEqual([len(result["tokens"]) for result in document["results"]], [5, 16, 16])
        for result, (text, n) in zip(document["results"], (("then the rain", 5), ("on", 16), ("then the rain", 16))):
            self.check_fields(result, GENERATION)
            alone = self.document("run", valid(), "-p", text, "--temp", "0", "--ignore-eos", "-n", n)
            self.assertEqual((result["tokens"], result["text"]), (alone["tokens"], alone["text"]))
        text = self.succeed("run", valid(), "--prompts", path, *GREEDY).out
        for number, result in enumerate(document["results"], 1):
            self.assertIn(f"==> {number}/3 <==\n{result['text']}\n", text)

    def test_a_batch_gives_each_what_it_would_get_alone_in_the_order_of_the_prompts(self):
        texts = ["then the rain", "on", "a b a b a b", "the shores of", "rain rain rain", "end"]
        path = self.write(*(json.dumps({"prompt": text, "n": 4 + 5 * i % 13}) for i, text in enumerate(texts)))
        greedy = ("--temp", "0", "--ignore-eos")
        for more in (greedy, ("--ignore-eos", "--temp", "0.9", "--seed", "7"), (*greedy, "--draft", "ngram"), (*greedy, "--draft", "ngram", "--draft-tokens", "3"),
                     (*greedy, "--draft", valid(), "--draft-tokens", "3"), (*greedy, "--draft", valid()), (*greedy, "--draft", valid(), "--groups", "2")):
            alone = self.document("run", valid(), "--prompts", path, *(more[:-2] if "--groups" in more else more))
            for batch in (2, 4, 100):
                document = self.document("run", valid(), "--prompts", path, "--batch", batch, *more)
                for result, expected in zip(document["results"], alone["results"], strict=True):
                    self.check_fields(result, GENERATION)
                    self.assertEqual({**result, "timings": 0}, {**expected, "timings": 0})
                self.check_fields(document, {"results": [], "timings": {**TIMINGS, "load_ms": 0.0, "total_tokens_per_s": 0.0}, **SHARED,
                                             "batch": {"most_at_once": 0, "steps": 0, "step_tokens": 0, "alternated_steps": 0}})
                if "--groups" in more:
                    self.assertGreater(document["batch"]["alternated_steps"], 0)
                else:
                    self.assertEqual(document["batch"]["most_at_once"], min(batch, len(texts)))
                self.assertLess(document["batch"]["steps"], sum(len(result["tokens"]) for result in alone["results"]))
                self.assertGreater(document["timings"]["total_tokens_per_s"], 0)
            text = self.succeed("run", valid(), "--prompts", path, "--batch", 3, *more).out
            self.assertEqual(text, "\n\n".join(f"==> {number}/{len(texts)} <==\n{result['text']}" for number, result in enumerate(alone["results"], 1)) + "\n")

    def test_a_batch_runs_within_the_smallest_budget_and_by_a_plan(self):
        path = self.write(*(json.dumps({"prompt": text, "n": 6}) for text in ("then the rain", "on", "a b a b a b")))
        args = ("--prompts", path, "--batch", "3", "--temp", "0", "--ignore-eos")
        free = self.document("run", valid(), *args)
        minimum = self.refuse(BUDGET, "run", valid(), *args, "--host-budget", "1KiB")["minimum_bytes"]
        least = self.document("run", valid(), *args, "--host-budget", minimum)
        self.assertEqual([one["tokens"] for one in least["results"]], [one["tokens"] for one in free["results"]])
        self.assertLessEqual(least["memory"]["host"]["peak_bytes"], minimum)
        plan = tool.options.scratch / "batch-plan.json"
        plan.write_text(json.dumps(self.document("plan", valid(), "--workload", "prompt=32,new=16,batch=2")))
        self.refuse(INVALID_ARGUMENT, "run", valid(), *args, "--plan", plan, naming="batch")
        replayed = self.document("run", valid(), *args[:3], "2", *args[4:], "--plan", plan)
        self.assertEqual([one["tokens"] for one in replayed["results"]], [one["tokens"] for one in free["results"]])

    def test_a_line_that_is_none_is_named(self):
        for line in ("[]", '{"prompt": 3}', '{"prompt": "a", "n": -1}', '{"prompt": "a", "n": "3"}', '{"text": "a"}', "prompt", '{"prompt": "a"'):
            error = self.refuse(CORRUPT_FILE, "run", valid(), "--prompts", self.write('{"prompt": "a"}', line), naming="line 2")
            self.assertEqual(error["byte_offset"], len('{"prompt": "a"}\n'))
        self.refuse(INVALID_ARGUMENT, "run", valid(), "--prompts", self.write(""), naming="prompts.jsonl")


class Interrupt(ToolTest):
    def test_ctrl_c_ends_a_measurement_with_130_and_no_result(self):
        outcome = interrupt_once_busy("bench", valid(), "-p", "64", "-n", "0", "--repeat", "100000000", "--json", busy=lambda outcome: outcome.out)
        self.assertEqual(json.loads(outcome.out)["error"]["name"], "CANCELLED")
        self.assertEqual(outcome.err.count("\n"), 1, outcome)

    def test_ctrl_c_ends_a_batch_with_what_there_is(self):
        path = tool.options.scratch / "many.jsonl"
        path.write_text("".join(f'{{"prompt": "rain {number}", "n": 100}}\n' for number in range(20000)))
        args = ("run", valid(), "--prompts", path, "--batch", "4", "--temp", "0", "--ignore-eos")
        reasons = []

        def is_busy(outcome):
            reasons[:] = [one["stop_reason"] for one in json.loads(outcome.out).get("results", [])]
            return "length" in reasons
        outcome = interrupt_once_busy(*args, "--json", busy=is_busy)
        done = reasons.count("length")
        self.assertEqual((len(reasons), reasons.count("cancelled")), (20000, 20000 - done))
        self.assertGreater(20000, done)
        text = interrupt_once_busy(*args, busy=lambda outcome: outcome.out).out
        self.assertLess(text.count("==> "), 20000)  # those that were not begun are left out

    def test_ctrl_c_ends_what_waits_for_input(self):
        process = start("run", valid(), "-f", "-", stdin=subprocess.PIPE)
        time.sleep(1)
        self.assertEqual(interrupt(process).code, INTERRUPTED)


if __name__ == "__main__":
    tool.main()
