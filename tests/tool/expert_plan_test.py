"""Plans of a mixture whose experts do not all fit: what earlier runs found in memory is expected again."""
import json
import pathlib

import tool
from tool import ToolTest

MIXTURE = pathlib.Path(__file__).parent.parent / "golden" / "logits" / "mixture-f16.gguf"
RUN = ("--temp", "0", "--ignore-eos", "-n", "60", "-p", "the 1 in then")


class ExpertPlan(ToolTest):
    def setUp(self):
        self.kept = tool.options.scratch / "cache" / "experts.json"
        self.kept.unlink(missing_ok=True)
        least = json.loads(tool.run("run", MIXTURE, *RUN, "--host-budget", "1KiB", "--json").out)["error"]["needed_bytes"]
        self.budget = ("--host-budget", str(least + 200_000))

    def planned(self):
        return self.document("plan", MIXTURE, *self.budget, "--workload", "prompt=16,new=64")

    def known(self):
        (model,) = json.loads(self.kept.read_text())["models"].values()
        return model

    def keep(self, name, **known):
        self.kept.write_text(json.dumps({"models": {name: known}}))

    def test_a_run_keeps_what_its_tokens_found_and_the_next_one_adds(self):
        told = self.document("run", MIXTURE, *RUN, *self.budget)["experts"]
        self.assertGreater(told["token_uses"], 0)
        self.assertLess(told["token_hits"], told["token_uses"])
        self.assertEqual(self.known(), {"uses": told["token_uses"], "repetition": told["repetition"]})
        again = self.document("run", MIXTURE, *RUN, *self.budget)["experts"]
        self.assertEqual(self.known()["uses"], told["token_uses"] + again["token_uses"])
        self.assertAlmostEqual(self.known()["repetition"], (told["repetition"] + again["repetition"]) / 2, 6)
        self.assertEqual(list(self.kept.parent.glob("experts.json.*")), [])

    def test_prompts_are_kept_too(self):
        prompts = tool.options.scratch / "expert_prompts.jsonl"
        prompts.write_text('{"prompt": "the", "n": 20}\n{"prompt": "in", "n": 20}\n')
        told = self.document("run", MIXTURE, *RUN[:3], "--prompts", prompts, *self.budget)["experts"]
        self.assertEqual(self.known()["uses"], told["token_uses"])

    def test_nothing_is_kept_of_a_model_that_fits_and_of_one_without_experts(self):
        self.succeed("run", MIXTURE, *RUN)
        self.succeed("run", tool.valid(), "-p", "a", "-n", "4")
        self.assertFalse(self.kept.exists())

    def test_what_is_known_changes_what_is_expected_and_nothing_else(self):
        text = self.document("run", MIXTURE, *RUN, *self.budget)["tokens"]
        (name,) = json.loads(self.kept.read_text())["models"]
        evenly = self.succeed("plan", MIXTURE, *self.budget)
        self.assertIn("is not known yet", evenly.err)
        few, least, much = [], [], []
        for plans, uses, repetition in ((few, 900, 6), (least, 1000, 1), (much, 5000, 6)):
            self.keep(name, uses=uses, repetition=repetition)
            plans.append(self.planned())
        self.assertEqual(few[0]["stream"]["expert_repetition"], 2)
        self.assertEqual((least[0]["stream"]["expert_repetition"], much[0]["stream"]["expert_repetition"]), (1, 6))
        self.assertLess(much[0]["step"]["decode"]["expert_bytes"], few[0]["step"]["decode"]["expert_bytes"])
        self.assertLess(few[0]["step"]["decode"]["expert_bytes"], least[0]["step"]["decode"]["expert_bytes"])
        self.assertAlmostEqual(much[0]["step"]["prefill"]["expert_bytes"] / least[0]["step"]["prefill"]["expert_bytes"], 1, 4)
        self.assertIn("as those of earlier runs did", self.succeed("plan", MIXTURE, *self.budget).err)
        self.assertEqual(self.succeed("plan", MIXTURE, *self.budget, "--progress", "none").err, "")
        self.assertEqual(self.document("run", MIXTURE, *RUN, *self.budget)["tokens"], text)

    def test_what_was_kept_wrongly_is_not_known(self):
        self.document("run", MIXTURE, *RUN, *self.budget)
        (name,) = json.loads(self.kept.read_text())["models"]
        for wrong in ({"uses": 5000}, {"uses": 5000, "repetition": 0.5}, {"uses": 5000, "repetition": 1e9}, {"uses": -1, "repetition": 3},
                      {"uses": 1e300, "repetition": 3}, {"uses": "many", "repetition": 3}):
            self.keep(name, **wrong)
            self.assertEqual(self.planned()["stream"]["expert_repetition"], 2, wrong)
        for text in ("", "[]", "{", '{"models": 3}', '{"models": {"%s": 3}}' % name):
            self.kept.write_text(text)
            self.assertEqual(self.planned()["stream"]["expert_repetition"], 2, text)


if __name__ == "__main__":
    tool.main()
