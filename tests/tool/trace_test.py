"""`--trace`: a trace of the lanes beside the result of `run`, `eval` and `bench`."""
import json
import pathlib
import time

import tool
from tool import BUDGET, INVALID_ARGUMENT, NOT_FOUND, ToolTest, valid

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"


def decode(*more, model=None):
    return ["run", model or valid(), "-p", "then the rain in the stones", "-n", "12", "--temp", "0", "--ignore-eos", *more]


class Trace(ToolTest):
    def setUp(self):
        self.path = tool.options.scratch / "trace.json"
        self.path.unlink(missing_ok=True)

    def traced(self, *args):
        """The outcome and the trace, whose form is checked; and how long it all took in microseconds."""
        begin = time.monotonic()
        outcome = self.succeed(*args, "--trace", self.path)
        wall_us = (time.monotonic() - begin) * 1e6
        trace = json.loads(self.path.read_text())
        tracks, events = {}, {}
        for event in trace["traceEvents"]:
            if event["ph"] == "M":
                if event["name"] == "thread_name":
                    tracks[event["tid"]] = event["args"]["name"]
                continue
            self.assertEqual((event["ph"], event["pid"]), ("X", 1))
            events.setdefault(tracks[event["tid"]], []).append(event)
        steps = {event["args"]["step"]: event for event in events["steps"]}
        for lane, of_lane in events.items():
            free_from = 0.0
            for event in sorted(of_lane, key=lambda event: event["ts"]):
                # Times are written to a nanosecond.
                self.assertGreaterEqual(event["ts"], free_from - 0.002, lane)
                free_from = event["ts"] + event["dur"]
                if lane == "draft":  # of no step
                    continue
                step = steps[event["args"]["step"]]
                self.assertGreaterEqual(event["ts"], step["ts"] - 0.002)
                self.assertLessEqual(free_from, step["ts"] + step["dur"] + 0.002)
            self.assertLess(sum(event["dur"] for event in of_lane), wall_us)
        return outcome, events

    def test_decoding_a_model_that_streams_has_fetches_on_the_disk_lane(self):
        # The smallest budget of the model of one layer holds it all; of this one it does not.
        model = GOLDEN / "logits" / "tied-q4_1.gguf"
        minimum = self.refuse(BUDGET, *decode("--host-budget", "1KiB", model=model))["minimum_bytes"]
        plain = self.succeed(*decode(model=model)).out
        outcome, events = self.traced(*decode("--host-budget", str(minimum), model=model))
        self.assertEqual(outcome.out, plain)
        self.assertEqual(set(events), {"steps", "host lane", "disk lane"})
        decoding = {event["args"]["step"] for event in events["steps"] if event["args"]["tokens"] == 1}
        self.assertGreaterEqual(len(decoding), 11)
        for step in decoding:
            fetches = [event for event in events["disk lane"] if event["args"]["step"] == step]
            self.assertGreater(len(fetches), 0)
            self.assertTrue(all(event["name"].startswith(("fetch unit ", "request unit ")) for event in fetches))
            self.assertTrue(all(event["args"]["bytes"] > 0 for event in fetches if event["name"].startswith("fetch")))
        names = {event["name"] for event in events["host lane"]}
        self.assertTrue({"embed", "blk.0 qkv", "blk.0 attention", "blk.0 gate_up", "blk.0 down", "head"} <= names, names)

    def test_a_model_that_is_resident_has_no_disk_lane(self):
        unused, events = self.traced(*decode())
        self.assertEqual(set(events), {"steps", "host lane"})

    def test_a_draft_model_has_a_track_of_its_own_between_the_steps(self):
        plain = self.succeed(*decode("--draft", "none")).out
        outcome, events = self.traced(*decode("--draft", valid(), "--draft-tokens", "3"))
        self.assertEqual(outcome.out, plain)
        self.assertEqual(set(events), {"steps", "host lane", "draft"})
        self.assertGreater(len(events["draft"]), 5)
        for draft in events["draft"]:
            self.assertRegex(draft["name"], r"draft step: \d+ tokens?$")
            self.assertEqual(draft["args"]["texts"], 1)
            for step in events["steps"]:
                self.assertTrue(draft["ts"] + draft["dur"] <= step["ts"] + 0.002 or step["ts"] + step["dur"] <= draft["ts"] + 0.002)

    def test_many_prompts_bench_and_eval_write_one_too(self):
        prompts = tool.options.scratch / "prompts.jsonl"
        prompts.write_text('{"prompt":"then the rain","n":3}\n{"prompt":"on the shores","n":3}\n')
        text = tool.options.scratch / "text"
        text.write_text("then the rain in the stones and on the shores where one hears another singing in the open air " * 3)
        for args in (("run", valid(), "--prompts", prompts, "--json"), ("bench", valid(), "-p", "8", "-n", "4", "--repeat", "2"),
                     ("eval", valid(), "--text", text, "--ctx", "32", "--reference-numerics", "float32"),
                     ("run", valid(), "--chat", "--chat-template", "chatml", "-p", "a", "-n", "2")):
            with self.subTest(args=args):
                self.path.unlink(missing_ok=True)
                unused, events = self.traced(*args)
                self.assertIn("head", {event["name"] for event in events["host lane"]})

    def test_a_conversation_writes_one_at_its_end(self):
        self.succeed("run", valid(), "--chat", "--chat-template", "chatml", "-n", "2", "--trace", self.path, input="hello\n/quit\n")
        self.assertIn("traceEvents", json.loads(self.path.read_text()))

    def test_where_it_cannot_be_written_nothing_is_run(self):
        for args in (decode(), ["bench", valid(), "-p", "8", "-n", "0"]):
            self.refuse(NOT_FOUND, *args, "--trace", tool.options.scratch / "no" / "trace.json", naming="trace.json")

    def test_commands_that_run_no_steps_have_nothing_to_trace(self):
        for args in (("plan", valid()), ("inspect", valid()), ("tokenize", valid(), "a"), ("profile",)):
            self.refuse(INVALID_ARGUMENT, *args, "--trace", self.path, naming="--trace")
        self.assertFalse(self.path.exists())


if __name__ == "__main__":
    tool.main()
