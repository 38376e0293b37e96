"""The tool on the default model: a right answer, the same under a budget, a conversation, Ctrl-C."""
import filecmp
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import tool
from tool import BUDGET, INTERRUPTED, INVALID_ARGUMENT, IO, ToolTest, interrupt, interrupt_once_busy, read_until, start

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = ("--chat", "-p", "What is the capital of France, and what is it known for?", "-n", "16", "--temp", "0")


def model():
    cache = os.environ.get("OUTRIGGER_CACHE") or pathlib.Path.home() / ".cache" / "outrigger"
    path = pathlib.Path(os.environ.get("OUTRIGGER_MODEL") or pathlib.Path(cache) / NAME)
    assert path.exists(), f"{path} is not there; './bootstrap model' fetches it"
    return path


class Model(ToolTest):
    def test_a_question_is_answered_and_the_text_streams(self):
        outcome = self.succeed("run", model(), *QUESTION)
        self.assertIn("Paris", outcome.out)
        document = self.document("run", model(), *QUESTION)
        self.assertEqual(document["text"], outcome.out)
        self.assertEqual(document["stop_reason"], "eos" if len(document["tokens"]) < 16 else "length")

    def test_a_budget_below_the_model_changes_no_token(self):
        budget = 64 << 20
        self.assertGreater(model().stat().st_size, budget)
        free = self.document("run", model(), *QUESTION, "--host-budget", "0")
        tight = self.document("run", model(), *QUESTION, "--host-budget", "64MiB")
        self.assertEqual(tight["tokens"], free["tokens"])
        host = tight["memory"]["host"]
        self.assertEqual(host["budget_bytes"], budget)
        self.assertLessEqual(host["peak_bytes"], host["planned_bytes"])
        self.assertLessEqual(host["planned_bytes"], budget)
        self.assertGreater(tight["streamed"]["disk_bytes"], 0)
        self.assertEqual(free["streamed"]["disk_bytes"], 0)

    def test_a_long_prompt_in_two_large_steps_changes_no_token(self):
        """By the profile of a machine whose disk is so slow that a prompt is worth all memory that a step can use."""
        folder = tool.options.scratch / "large_steps"
        folder.mkdir(parents=True, exist_ok=True)
        rates = {"host_stream_bytes": 40e9, "host_int8_ops": 6e12, "host_small_batch_ops": 6e12, "host_attention_flops": 2e12, "host_repack_bytes": 4e9, "disk_bytes": 1e6}
        profile = {name: {"per_s": rate, "spread": 0.0, "how": "by hand"} for name, rate in rates.items()}
        profile.update(machine="a slow disk", threads=2, host_step_overhead_us=50.0)
        (folder / "profile.json").write_text(json.dumps(profile))
        plan = self.document("plan", model(), "--profile", folder / "profile.json", "--host-budget", "236MiB", "--workload", "prompt=8100,new=1")
        self.assertEqual((plan["step_tokens"], plan["threads"]), (2048, 2))
        (folder / "plan.json").write_text(json.dumps(plan))
        (folder / "prompt.txt").write_text(" ".join(f"{n} and {n * n};" for n in range(330)))
        question = ("run", model(), "-f", folder / "prompt.txt", "-n", "8", "--temp", "0", "--draft", "none")
        plain = self.document(*question)
        self.assertGreater(len(plain["prompt_tokens"]), 2048)
        self.assertEqual(self.document(*question, "--plan", folder / "plan.json")["tokens"], plain["tokens"])

    def test_copies_of_what_streams_draft_within_the_budget_and_change_no_token(self):
        free = self.document("run", model(), *QUESTION, "--host-budget", "0", "--draft", "none")
        drafted = self.document("run", model(), *QUESTION, "--host-budget", "88MiB", "--draft", "self", "--draft-tokens", "4")
        self.assertEqual(drafted["tokens"], free["tokens"])
        self.assertEqual(drafted["speculation"]["draft"], "self")
        self.assertGreater(drafted["speculation"]["accepted"], 0)
        self.assertLessEqual(drafted["memory"]["host"]["peak_bytes"], 88 << 20)
        workload = ("--workload", "prompt=64,new=64")
        plan = self.document("plan", model(), "--host-budget", "88MiB", "--draft", "self", *workload)
        self.assertEqual(plan["draft"]["kind"], "self")
        self.assertEqual(plan["draft"]["bits"], 4)
        self.assertGreater(plan["draft"]["expected_tokens_per_pass"], 1)
        error = self.refuse(BUDGET, "plan", model(), "--host-budget", "20MiB", "--draft", "self", *workload, naming="copies")
        self.assertEqual(self.document("plan", model(), "--host-budget", str(error["needed_bytes"]), "--draft", "self", *workload)["draft"]["bits"], 2)
        # Four or five bits stream: auto would rather have them resident, and says what copies would take.
        declined = self.document("plan", model(), "--host-budget", "64MiB", *workload)
        self.assertNotEqual(declined["draft"]["kind"], "self")
        self.assertIn("-bit copies of ", declined["alternatives"][-1]["what"])
        ran = self.document("run", model(), *QUESTION, "--host-budget", "64MiB")
        self.assertEqual(ran["speculation"]["draft"], "ngram")
        self.assertIn("-bit copies of ", ran["plan"]["alternatives"][-1]["what"])

    def test_a_device_takes_what_host_memory_cannot_hold_and_changes_no_token(self):
        device = ("--device", "emulated:memory=128MiB,link=8GB/s", "--device-budget", "100MiB")
        free = self.document("run", model(), *QUESTION, "--host-budget", "0")
        shared = self.document("run", model(), *QUESTION, "--host-budget", "40MiB", *device)
        self.assertEqual(shared["tokens"], free["tokens"])
        for tier, budget in (("host", 40 << 20), ("device", 100 << 20)):
            memory = shared["memory"][tier]
            self.assertEqual(memory["budget_bytes"], budget)
            self.assertGreater(memory["peak_bytes"], 0)
            self.assertLessEqual(memory["peak_bytes"], budget)
        self.assertGreater(shared["streamed"]["h2d_bytes"], 0)
        self.assertGreater(shared["streamed"]["d2h_bytes"], 0)
        trace = tool.options.scratch / "device_trace.json"
        self.document("run", model(), *QUESTION, "--host-budget", "40MiB", *device, "--trace", trace)
        lanes = {event["args"]["name"] for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "thread_name"}
        self.assertLessEqual({"host lane", "device lane", "h2d lane", "d2h lane"}, lanes)

    def test_a_context_that_memory_cannot_hold_is_on_disk_and_changes_no_token(self):
        long = ("run", model(), *QUESTION, "--ctx", "8192")
        free = self.document(*long, "--host-budget", "0")
        self.assertEqual((free["streamed"]["kv_read_bytes"], free["streamed"]["kv_written_bytes"]), (0, 0))
        tight = self.document(*long, "--host-budget", "32MiB")
        self.assertEqual(tight["tokens"], free["tokens"])
        self.assertLessEqual(tight["memory"]["host"]["peak_bytes"], 32 << 20)
        self.assertGreater(tight["streamed"]["kv_read_bytes"], 0)
        self.assertGreater(tight["streamed"]["kv_written_bytes"], 0)
        plan = self.document("plan", model(), "--host-budget", "32MiB", "--workload", "prompt=100,new=100,ctx=8192")
        self.assertGreater(plan["kv"]["spilled_layers"], 0)
        self.assertGreater(plan["kv"]["spill_bytes"], 32 << 20)
        path = tool.options.scratch / "spilled.json"
        path.write_text(json.dumps(plan))
        self.refuse(INVALID_ARGUMENT, "run", model(), *QUESTION, "--plan", path, "--spill-dir", "none", naming="--spill-dir")
        self.refuse(BUDGET, *long, "--host-budget", "32MiB", "--spill-dir", "none", naming="KV cache")
        self.refuse(IO, *long, "--host-budget", "32MiB", "--spill-dir", "/no/such/folder", naming="/no/such/folder")
        table = self.succeed("plan", model(), "--host-budget", "32MiB", "--workload", "prompt=100,new=100,ctx=8192").out
        self.assertIn(f"Keys and values of {plan['kv']['spilled_layers']} of 30 layers are on disk", table)

    def test_the_process_stays_near_its_budget(self):
        if tool.options.sanitizer:
            self.skipTest("a sanitizer's shadow is no part of a budget")
        self.document("profile", "--disk", model())  # measured apart: it takes 64 MiB of its own
        process = start("run", model(), *QUESTION, "--host-budget", "64MiB", "--json")
        out = process.stdout.read()
        unused, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, process.stderr.read())
        json.loads(out)
        self.assertLessEqual(usage.ru_maxrss * 1024, (64 << 20) + (24 << 20))
        process.stdout.close()
        process.stderr.close()

    def test_the_smallest_budget_works(self):
        args = ("run", model(), "--chat", "-p", "Hi", "-n", "4", "--temp", "0")
        minimum = self.refuse(BUDGET, *args, "--host-budget", "64KiB")["minimum_bytes"]
        tight = self.document(*args, "--host-budget", str(minimum))
        self.assertEqual(tight["tokens"], self.document(*args)["tokens"])
        self.assertLessEqual(tight["memory"]["host"]["peak_bytes"], minimum)

    def test_ctrl_c_ends_with_what_there_is(self):
        args = ("run", model(), "-p", "Once upon a time", "-n", "4000", "--temp", "0", "--ignore-eos")
        process = start(*args)
        text = read_until(process, lambda out: len(out) >= 20)
        outcome = interrupt(process)
        self.assertEqual(outcome.code, INTERRUPTED, outcome)
        full = self.document("run", model(), "-p", "Once upon a time", "-n", "32", "--temp", "0", "--ignore-eos")["text"]
        self.assertTrue((text + outcome.out).startswith(full) or full.startswith(text + outcome.out))

        outcome = interrupt_once_busy(*args, "--json", busy=lambda outcome: '"stop_reason"' in outcome.out)
        document = json.loads(outcome.out)
        self.assertEqual(document["stop_reason"], "cancelled")
        self.assertGreater(len(document["tokens"]), 0)
        self.assertLess(len(document["tokens"]), 4000)

    def test_a_conversation_remembers_until_it_is_reset(self):
        saved, fresh = tool.options.scratch / "saved.json", tool.options.scratch / "fresh.json"
        question = "What did I say?"
        lines = ("I like red apples.", question, f"/save {saved}", "/reset", "", question, f"/save {fresh}", "/nonsense", "/quit", "unread")
        args = ("run", model(), "--chat", "--system", "Answer briefly.", "--temp", "0", "-n", "12")
        outcome = self.succeed(*args, "--ctx", "512", input="\n".join(lines) + "\n")
        saved, fresh = json.loads(saved.read_text()), json.loads(fresh.read_text())
        self.assertEqual([message["role"] for message in saved], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual([message["role"] for message in fresh], ["system", "user", "assistant"])
        self.assertEqual(fresh[-1]["content"], self.document(*args, "-p", question)["text"])
        self.assertNotEqual(saved[-1]["content"], fresh[-1]["content"])
        answers = [message["content"] for message in (*saved, *fresh) if message["role"] == "assistant"]
        self.assertEqual(outcome.out, "".join(answer + "\n" for answer in answers))
        self.assertIn("/nonsense", outcome.err)

    def test_a_conversation_that_fills_the_context_says_so_and_goes_on(self):
        outcome = self.succeed("run", model(), "--chat", "--temp", "0", "-n", "8", "--ctx", "64", input="word " * 100 + "\nHi\n")
        self.assertIn("/reset", outcome.err)
        self.assertTrue(outcome.out.strip())

    def test_ctrl_c_at_the_prompt_ends_the_conversation(self):
        process = start("run", model(), "--chat", "--temp", "0", "-n", "4", "--ctx", "256", stdin=subprocess.PIPE)
        process.stdin.write(b"Hi\n")
        process.stdin.flush()
        read_until(process, lambda out: out.endswith(b"\n"))
        self.assertEqual(interrupt(process).code, INTERRUPTED)


class Pack(ToolTest):
    def setUp(self):
        self.folder = tool.options.scratch / "pack"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.out = self.folder / "packed.gguf"

    def test_the_packed_model_answers_the_same_under_a_budget_and_holds_few_bytes_while_it_is_made(self):
        process = start("pack", model(), "-o", self.out)
        process.stdout.read()
        unused, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, process.stderr.read())
        if not tool.options.sanitizer:
            self.assertLess(usage.ru_maxrss * 1024, 48 << 20)  # half the model; most of it is vocabulary
        process.stdout.close()
        process.stderr.close()
        tight = self.document("run", self.out, *QUESTION, "--host-budget", "64MiB")
        self.assertEqual(tight["tokens"], self.document("run", model(), *QUESTION, "--host-budget", "0")["tokens"])
        self.assertGreater(tight["streamed"]["disk_bytes"], 0)

    def test_killed_or_interrupted_at_any_moment_it_leaves_all_or_nothing(self):
        complete = tool.options.scratch / "complete.gguf"
        self.succeed("pack", model(), "-o", complete)
        ended_early = 0
        for i in range(12):
            with self.subTest(i=i):
                process = start("pack", model(), "-o", self.out)
                time.sleep(0.02 + i * 0.03)
                process.send_signal(signal.SIGKILL if i % 2 == 0 else signal.SIGINT)
                process.communicate(timeout=120)
                left = [entry.name for entry in self.folder.iterdir()]
                if left == []:
                    # -SIGINT: the signal came before main installed the handler, as it does in a slow sanitizer build.
                    self.assertIn(process.returncode, (-signal.SIGKILL, -signal.SIGINT, INTERRUPTED))
                    ended_early += 1
                    continue
                self.assertEqual(left, ["packed.gguf"])
                self.assertTrue(filecmp.cmp(self.out, complete, shallow=False))
                self.out.unlink()
        self.assertGreater(ended_early, 0)


if __name__ == "__main__":
    tool.main()
