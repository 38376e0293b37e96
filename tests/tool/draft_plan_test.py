"""`plan --draft FILE`: what is expected of a draft model, and that it learns from runs."""
import json
import pathlib

import tool
from tool import BUDGET, INVALID_ARGUMENT, NOT_FOUND, ToolTest, valid

# A draft that is the model itself is always right.
RUN = ("-p", "ab ab ab", "-n", "40", "--temp", "0", "--ignore-eos", "--draft-shape", "chain", "--draft-tokens", "4")


class DraftPlan(ToolTest):
    def setUp(self):
        self.kept = tool.options.scratch / "cache" / "acceptance.json"
        self.kept.unlink(missing_ok=True)

    def planned(self, *more):
        return self.document("plan", valid(), "--draft", valid(), "--draft-tokens", "4", "--workload", "prompt=32,new=32", *more)

    def drafted(self):
        return self.document("run", valid(), "--draft", valid(), *RUN)["speculation"]

    def test_a_draft_that_was_never_tried_is_expected_to_be_right_with_60_percent(self):
        plan = self.planned()
        self.assertEqual(plan["draft"]["kind"], "model")
        # Tokens of a pass with drafts of 0 to 4.
        lengths = [sum(0.6 ** i for i in range(n + 1)) for n in range(5)]
        self.assertLess(min(abs(plan["draft"]["expected_tokens_per_pass"] - tokens) for tokens in lengths), 1e-9)
        self.assertGreater(plan["draft"]["predicted_decode_tokens_per_s"], 0)
        self.assertIn("without the draft model", [other["what"] for other in plan["alternatives"]])
        text = self.succeed("plan", valid(), "--draft", valid())
        self.assertIn("kept for a draft model", text.out)
        self.assertIn("never tried with this model", text.err)

    def test_what_was_accepted_is_kept_and_expected_again(self):
        told = self.drafted()
        self.assertEqual(told["accepted_at"], told["drafted_at"])
        (pair,) = json.loads(self.kept.read_text())["pairs"].values()
        self.assertEqual(pair["drafted"][:4], told["drafted_at"])
        self.assertEqual(pair["accepted"][:4], told["accepted_at"])
        self.drafted()
        (pair,) = json.loads(self.kept.read_text())["pairs"].values()
        self.assertEqual(pair["drafted"][:4], [2 * count for count in told["drafted_at"]])
        if self.planned()["draft"]["expected_tokens_per_pass"] > 1:
            self.assertIn(self.planned()["draft"]["expected_tokens_per_pass"], (2, 3, 4, 5))
        self.assertIn("drafts of earlier runs", self.succeed("plan", valid(), "--draft", valid()).err)
        self.assertEqual(list(self.kept.parent.glob("acceptance.json.*")), [])

    def test_prompts_are_kept_together(self):
        prompts = tool.options.scratch / "draft_prompts.jsonl"
        prompts.write_text('{"prompt": "ab", "n": 20}\n{"prompt": "ba", "n": 20}\n')
        told = self.document("run", valid(), "--prompts", prompts, "--batch", "2", "--draft", valid(), *RUN[4:])["speculation"]
        (pair,) = json.loads(self.kept.read_text())["pairs"].values()
        self.assertEqual(pair["drafted"][: len(told["drafted_at"])], told["drafted_at"])

    def test_a_draft_that_was_seldom_right_in_earlier_runs_is_left_out_of_a_run_that_it_would_slow_down(self):
        # A target of eight times the draft's bytes on a machine whose memory is slow, so that a draft that is right pays; reading the prompt by it costs a sixth of the text.
        models = pathlib.Path(__file__).resolve().parents[1] / "golden" / "logits"
        run = ("run", models / "odd-f32.gguf", "--draft", models / "q8_0-one-layer.gguf", "-p", 10 * "ab", "-n", "20", "--temp", "0", "--ignore-eos", "--draft-shape", "chain")
        self.succeed(*run, "--draft-tokens", "4")
        profile = self.kept.parent / "profile.json"
        machine = profile.read_text()
        self.addCleanup(profile.write_text, machine)
        slow = json.loads(machine)
        for rate, per_s in (("host_stream_bytes", 5e6), ("host_stream_bytes_busy", 5e6), ("host_int8_ops", 6e6)):
            slow[rate]["per_s"] = per_s
        profile.write_text(json.dumps(slow))
        (pair,) = json.loads(self.kept.read_text())["pairs"]
        for drafts, share, is_left_out in ((300, 0.01, True), (200, 0.01, False), (300, 0.9, False)):
            self.kept.write_text(json.dumps({"pairs": {pair: {"drafted": 16 * [drafts], "accepted": [drafts * share ** i for i in range(1, 17)]}}}))
            done = self.succeed(*run)
            (self.assertRegex if is_left_out else self.assertNotRegex)(done.err, "the draft is left out: as right as 300 drafts of earlier runs, ")
            self.assertEqual("is left out" in done.err, is_left_out, (drafts, share, done.err))

    def test_a_draft_that_was_always_right_and_is_as_slow_as_its_target_is_left_out(self):
        self.drafted()
        (pair,) = json.loads(self.kept.read_text())["pairs"]
        self.kept.write_text(json.dumps({"pairs": {pair: {"drafted": 16 * [300], "accepted": 16 * [300]}}}))
        done = self.succeed("run", valid(), "--draft", valid(), *RUN[:-2])
        self.assertIn("the draft is left out: if all of it were right, ", done.err)

    def test_other_drafts_are_not_kept(self):
        for more in (("--draft", "ngram"), ("--draft", "none")):
            self.succeed("run", valid(), *more, *RUN[:6])
        self.assertFalse(self.kept.exists())

    def test_of_trees_the_likeliest_paths_are_kept(self):
        told = self.document("run", valid(), "--draft", valid(), *RUN[:7], "--draft-shape", "tree", "--draft-tokens", "12")["speculation"]
        self.assertGreater(told["tree_passes"], 0)
        (pair,) = json.loads(self.kept.read_text())["pairs"].values()
        # The likeliest token of a draft that is the model itself is always right.
        self.assertEqual(pair["drafted"][0], told["drafted_at"][0])
        self.assertEqual(pair["accepted"], pair["drafted"])

    def test_a_file_that_is_none_of_ours_is_as_none(self):
        plan = self.planned()["draft"]
        self.drafted()
        (pair,) = json.loads(self.kept.read_text())["pairs"]
        for text in ("", "{", "[]", '{"pairs": 3}', json.dumps({"pairs": {pair: []}}), json.dumps({"pairs": {pair: {"drafted": [9], "accepted": ["x"]}}}),
                     json.dumps({"pairs": {pair: {"drafted": [-1] * 16, "accepted": [0]}}}), json.dumps({"pairs": {pair: {"drafted": [9] * 17, "accepted": [0]}}}),
                     json.dumps({"pairs": {pair: {"drafted": [1e300], "accepted": [1]}}}), '{"pairs": {"%s": {"drafted": [NaN], "accepted": [1]}}}' % pair):
            self.kept.write_text(text)
            self.assertEqual(self.planned()["draft"]["expected_tokens_per_pass"], plan["expected_tokens_per_pass"], text)
            self.drafted()
            self.assertIn(pair, json.loads(self.kept.read_text())["pairs"], text)

    def test_a_draft_has_a_place_on_the_device_where_there_is_one(self):
        device = ("--device", "emulated:memory=64MiB,link=4GB/s,threads=1", "--device-budget", "32MiB")
        plan = self.planned(*device, "--draft-place", "device")
        there = plan["tiers"]["device"]["breakdown"]["draft"]
        self.assertGreater(there, 0)
        self.assertLess(plan["draft"]["expected_tokens_per_pass"], 5.001)
        self.assertIn("which computes on the device", self.succeed("plan", valid(), "--draft", valid(), *device, "--draft-place", "device").out)
        self.assertEqual(self.planned(*device, "--draft-place", "host")["tiers"]["device"]["breakdown"]["draft"], 0)
        self.assertIn(self.planned(*device)["tiers"]["device"]["breakdown"]["draft"], (0, there))
        texts = [self.document("run", valid(), "--draft", valid(), *RUN, *device, "--draft-place", place) for place in ("host", "device")]
        self.assertEqual(texts[0]["tokens"], texts[1]["tokens"])
        self.assertGreater(texts[1]["memory"]["device"]["peak_bytes"], 0)
        self.refuse(INVALID_ARGUMENT, "plan", valid(), "--draft", valid(), "--draft-place", "device", naming="no device")
        self.refuse(INVALID_ARGUMENT, "run", valid(), "-p", "a", "--draft-place", "device", naming="--draft-place")
        self.refuse(BUDGET, "plan", valid(), "--draft", valid(), *device[:2], "--device-budget", "4KiB", "--draft-place", "device", naming="device memory budget")

    def test_a_draft_that_is_not_there_or_does_not_fit_is_an_error_as_in_a_run(self):
        self.refuse(NOT_FOUND, "plan", valid(), "--draft", tool.options.scratch / "none.gguf", naming="none.gguf")
        self.refuse(BUDGET, "plan", valid(), "--draft", valid(), "--host-budget", "1KiB")


if __name__ == "__main__":
    tool.main()
