"""`compress` on a tiny model: what it writes, that it runs and how near it stays, what it refuses, and that nothing is left then."""
import pathlib
import random
import shutil
import signal
import subprocess
import time

import tool
from browser import BrowserTest
from tool import INVALID_ARGUMENT, NOT_FOUND, UNSUPPORTED, USAGE

TINY = pathlib.Path(__file__).parent.parent / "golden" / "logits"
MODEL = TINY / "dense-f16.gguf"
MIXTURE = TINY / "mixture-f16.gguf"  # tests/bench/experts.py dense-f16.gguf mixture-f16.gguf --experts 3 --top 2: it computes what the dense one does


class Compress(BrowserTest):
    def setUp(self):
        self.folder = tool.options.scratch / "compress"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.out = self.folder / "small.gguf"
        self.text = self.folder / "text.txt"
        self.text.write_text(" ".join(f"the {n} in then {n * n}" for n in range(400)))
        self.other = self.folder / "other.txt"
        self.other.write_text(" ".join(f"{n * 7 % 90} there, hint" for n in range(300)))
        self.calibration = ("--calibration", self.text, "--ctx", "64", "--chunks", "12")
        self.args = (*self.calibration, "--quality-chunks", "0")

    def left(self):
        return sorted(entry.name for entry in self.folder.iterdir() if entry.suffix == ".gguf")

    @tool.long
    def test_more_bits_are_nearer_and_the_document_counts_them(self):
        distances = []
        for bits in (4, 3, 2):
            document = self.document("compress", MODEL, "-o", self.out, "--bits", str(bits), "--polish", "off", *self.args)
            self.check_fields(document, {"file": "", "bytes": {"input": 0, "output": 0, "backbone": 0, "branches": 0, "branch_reads_per_token": 0},
                                         "bits_per_weight": {"backbone": 0.0, "branches": 0.0, "branch_reads": 0.0}, "quality": None, "levels": "", "group": 0, "calibration_tokens": 0, "resumed_windows": 0,
                                         "memory": {"budget": 0, "planned": 0, "peak": 0, "feedback_columns": 0, "peaks": {"calibration": 0, "grams": 0, "matrices": 0, "backbone": 0, "corrections": 0, "training": 0}}, "polish": None, "survey": None, "matrices": [], "seconds": 0.0})
            self.assertEqual(document["bits_per_weight"]["backbone"], bits + 0.5)
            self.assertEqual(document["bytes"]["output"], self.out.stat().st_size)
            self.assertEqual(document["bytes"]["backbone"] * 8, (bits + 0.5) * 3 * (64 * 64 * 3 + 64 * 128 * 3))
            self.assertEqual(document["calibration_tokens"], 12 * 64)
            result = self.document("eval", self.out, "--reference", MODEL, "--text", self.other, "--ctx", "64", "--chunks", "6")
            distances.append(result["kl"]["mean"])
        self.assertLess(distances[0], 0.3, distances)
        self.assertLess(distances[0] * 2, distances[1], distances)
        self.assertLess(distances[1], distances[2], distances)

    def test_a_budget_is_kept_and_one_that_does_not_do_is_refused_with_the_least_that_does(self):
        self.assertIn("--host-budget", self.succeed("compress", "--help").out)
        command = ("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", *self.args)
        least = self.refuse(tool.BUDGET, *command, "--host-budget", "1kB", naming="for matrices as floats")["minimum_bytes"]
        self.assertEqual(self.left(), [])
        memory = self.document(*command, "--host-budget", str(least))["memory"]
        self.assertEqual((memory["budget"], memory["planned"]), (least, least))
        self.assertLessEqual(memory["peak"], least)
        self.assertEqual(self.document(*command)["memory"]["budget"], 0)

    def test_inspect_tells_the_new_types_and_the_text_does_not_depend_on_the_budget(self):
        self.succeed("compress", MODEL, "-o", self.out, "--bits", "3", "--polish", "off", *self.args)
        types = {tensor["name"]: tensor["type"] for tensor in self.document("inspect", self.out, "--tensors")["tensors"]}
        self.assertEqual({types[name] for name in types if name.startswith("blk.") and "norm" not in name}, {"O3"})
        self.assertEqual(types["token_embd.weight"], "F16")
        run = ("run", self.out, "-p", "the thin", "-n", "12", "--temp", "0", "--ignore-eos")
        least = self.refuse(tool.BUDGET, *run, "--host-budget", "1kB")["minimum_bytes"]
        self.assertEqual(self.document(*run)["tokens"], self.document(*run, "--host-budget", str(least))["tokens"])

    @tool.long
    def test_a_codebook_is_nearer_in_as_many_bytes_and_groups_are_told(self):
        distances = []
        for levels, letter in (("uniform", "O"), ("codebook", "N")):
            document = self.document("compress", MODEL, "-o", self.out, "--bits", "3", "--levels", levels, "--polish", "off", *self.args)
            self.assertEqual((document["levels"], document["group"], document["bits_per_weight"]["backbone"]), (levels, 64, 3.5))
            types = {tensor["type"] for tensor in self.document("inspect", self.out, "--tensors")["tensors"]}
            self.assertIn(letter + "3", types)
            distances.append(self.document("eval", self.out, "--reference", MODEL, "--text", self.other, "--ctx", "64", "--chunks", "6")["kl"]["mean"])
        self.assertLess(distances[1], distances[0], distances)
        self.out.unlink()
        self.refuse(UNSUPPORTED, "compress", MODEL, "-o", self.out, "--group", "128", *self.args, naming="multiple of 128")
        self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.out, "--group", "128", "--bits", "mixed:4.4", *self.args, naming="mixed:2.25")
        self.refuse(USAGE, "compress", MODEL, "-o", self.out, "--group", "96", *self.args, naming="--group")
        self.refuse(USAGE, "compress", MODEL, "-o", self.out, "--levels", "round", *self.args, naming="--levels")
        self.assertEqual(self.left(), [])

    def test_several_texts_share_the_chunks_and_the_same_input_gives_the_same_bytes(self):
        both = ("--calibration", self.text, "--calibration", self.other, "--ctx", "64", "--chunks", "8", "--bits", "2", "--polish", "off")
        self.succeed("compress", MODEL, "-o", self.out, *both, "--threads", "1")
        first = self.out.read_bytes()
        self.succeed("compress", MODEL, "-o", self.out, *both, "--threads", "3")
        self.assertEqual(self.out.read_bytes(), first)
        self.succeed("compress", MODEL, "-o", self.out, "--calibration", self.text, "--ctx", "64", "--chunks", "8", "--bits", "2", "--polish", "off")
        self.assertNotEqual(self.out.read_bytes(), first)

    def test_what_is_wrong_is_said_and_nothing_is_left(self):
        empty = self.folder / "empty.txt"
        empty.write_text("")
        self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.out, "--calibration", empty, naming="empty.txt")
        self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.out, "--calibration", self.text, "--ctx", "60000", naming="longer text")
        self.refuse(NOT_FOUND, "compress", MODEL, "-o", self.out, "--calibration", self.folder / "none.txt", naming="none.txt")
        self.refuse(UNSUPPORTED, "compress", TINY / "odd-f32.gguf", "-o", self.out, *self.args, naming="multiple of 64")
        for option, value in (("--bits", "5"), ("--bits", "mixed:9"), ("--branch-budget", "much"), ("--branch-budget", "-1bpw"), ("--branch-reads", "1ftw"), ("--polish", "maybe")):
            self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.out, option, value, *self.args, naming=option)
        self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.out, "--branch-reads", "1bpw", "--branch-budget", "1bpw", "--form", "sparse", "--allocate", "uniform", *self.args,
                    naming="too little")
        self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.out, "--branch-budget", "1bpw", "--form", "sparse", "--allocate", "hcinfer", *self.args, naming="low-rank")
        self.refuse(USAGE, "compress", MODEL, "-o", self.out, "--factor-bits", "6", *self.args, naming="--factor-bits")
        self.refuse(USAGE, "compress", MODEL, "-o", self.out, "--form", "dense", *self.args, naming="--form")
        self.assertEqual(self.left(), [])
        copy = self.folder / "model.gguf"
        shutil.copy(MODEL, copy)
        self.refuse(INVALID_ARGUMENT, "compress", copy, "-o", copy, *self.args, naming="model.gguf")
        self.assertEqual(copy.read_bytes(), MODEL.read_bytes())

    @tool.long
    def test_without_a_text_the_model_writes_one_and_always_the_same(self):
        options = ("compress", MODEL, "-o", self.out, "--bits", "3", "--ctx", "64", "--chunks", "8", "--polish", "off")
        self.assertEqual(self.document(*options)["calibration_tokens"], 512)
        first = self.out.read_bytes()
        self.succeed(*options, "--threads", "3")
        self.assertEqual(self.out.read_bytes(), first)
        self.assertLess(self.distance(), 1)

    @tool.long
    def test_the_form_is_chosen_by_what_is_given(self):
        # A rank of 32 for all takes 4 bits for each weight of so small a model, residuals 4.5.
        for options, is_sparse in ((("--branch-reads", "1bpw"), True), (("--branch-reads", "1bpw", "--branch-budget", "5bpw"), True),
                                   (("--branch-reads", "4.2bpw", "--branch-budget", "4.2bpw"), False), (("--branch-reads", "4.2bpw", "--form", "low-rank"), False),
                                   (("--branch-budget", "4.2bpw"), False), (("--branch-budget", "5bpw", "--form", "sparse"), True)):
            with self.subTest(options):
                bits = self.document("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", "--allocate", "uniform", *options, *self.args)["bits_per_weight"]
                self.assertEqual(bits["branches"] > 4.3, is_sparse)
                self.assertGreater(bits["branches"], 3)
                self.assertLessEqual(bits["branch_reads"], 1.01 if "1bpw" in options else 4.51)

    def distance(self, *options, file=None):
        return self.document("eval", file or self.out, "--reference", MODEL, "--text", self.other, "--ctx", "64", "--chunks", "6", *options)["kl"]["mean"]

    @tool.long
    def test_branches_bring_it_nearer_and_the_share_says_how_much_of_them_is_used(self):
        self.succeed("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", *self.args)
        bare = self.distance()
        for name, options in {"uniform": ("--branch-budget", "60kB", "--allocate", "uniform", "--polish", "off"),
                              "measured": ("--branch-budget", "20%", "--form", "low-rank", "--polish", "off"), "scored": ("--branch-budget", "60kB", "--allocate", "hcinfer", "--polish", "off"),
                              "polished": ("--branch-budget", "20%", "--form", "low-rank", "--polish", "20"), "residual": ("--branch-reads", "1bpw", "--form", "sparse")}.items():
            with self.subTest(name):
                document = self.document("compress", MODEL, "-o", self.out, "--bits", "2", *options, *self.args)
                bits, size = document["bits_per_weight"], document["bytes"]
                self.assertEqual(size["output"], self.out.stat().st_size)
                if name == "residual":
                    self.assertAlmostEqual(bits["branches"], 4.5)
                    self.assertAlmostEqual(bits["branch_reads"], 1, places=2)
                else:
                    self.assertLessEqual(size["branches"], 60000 if name in ("uniform", "scored") else size["backbone"] * 0.2)
                    self.assertEqual(size["branches"], size["branch_reads_per_token"])
                self.assertGreater(size["branches"], 0)
                all_of_it, none = self.distance(), self.distance("--branch", "none")
                self.assertLess(all_of_it, 0.95 * none)
                self.assertLess(all_of_it, bare)
        self.refuse(INVALID_ARGUMENT, "compress", MODEL, "-o", self.folder / "again.gguf", "--branch-budget", "10", *self.args, naming="too little")
        self.refuse(UNSUPPORTED, "compress", self.out, "-o", self.folder / "again.gguf", *self.args, naming="already")

    @tool.long
    def test_factors_of_eight_bits_take_nearly_twice_the_bytes_and_lose_less_by_rounding(self):
        left = {}
        for bits, budget in ((4, "4.2bpw"), (8, "8bpw")):
            document = self.document("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", budget, "--factor-bits", str(bits), "--form", "low-rank", "--allocate", "uniform", "--polish", "off",
                                     *self.args)
            for matrix in document["matrices"]:
                self.assertEqual((matrix["rank"], matrix["bytes"]["branch"] * 8), (32, (bits + 0.5) * 32 * (matrix["rows"] + matrix["columns"])))
            left[bits] = sum(matrix["loss_left"] for matrix in document["matrices"])
        self.assertLess(left[8], 0.8 * left[4])
        self.assertLess(self.distance(), self.distance("--branch", "none"))

    @tool.long
    def test_following_the_load_tells_what_was_used_and_keeps_to_the_first_steps_that_do_not_depend_on_time(self):
        self.succeed("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", "20%", "--form", "low-rank", "--polish", "off", *self.args)
        run = ("run", self.out, "-p", "the thin", "--temp", "0", "--ignore-eos")
        document = self.document(*run, "-n", "7", "--branch", "follow")
        self.check_fields(document, {"branches": {"steps": 0, "mean_share": 0.0, "slowdown": 0.0}})
        self.assertEqual(document["branches"]["steps"], 6)
        self.assertAlmostEqual(document["branches"]["mean_share"], 4 / 6)  # the third and the sixth use none
        self.assertEqual(document["speculation"]["draft"], "none")
        self.assertNotIn("branches", self.document(*run, "-n", "7"))
        # More than any branch takes, and bare steps to compare with, of three steps one at most; and less than all of them take here, some 5 %.
        much = self.document(*run, "-n", "100", "--branch", "follow", "--max-slowdown", "1000%")["branches"]
        little = self.document(*run, "-n", "100", "--branch", "follow", "--max-slowdown", "1%")["branches"]
        self.assertGreater(much["mean_share"], 0.6)
        self.assertLess(little["mean_share"], much["mean_share"])
        self.assertIn("branches: ", self.succeed(*run, "-n", "7", "--branch", "follow", "--progress", "plain").err)

        prompts = self.folder / "prompts.jsonl"
        prompts.write_text('{"prompt": "the thin", "n": 7}\n' * 2)
        for batch in ("1", "2"):
            many = self.document("run", self.out, "--prompts", prompts, "--batch", batch, "--temp", "0", "--ignore-eos", "--branch", "follow")
            self.assertEqual(many["branches"]["steps"], 12 if batch == "1" else 6)
        rows = self.document("bench", self.out, "-p", "8", "-n", "6", "--repeat", "2", "--batch", "1,2", "--branch", "follow")
        self.assertEqual([row.get("branches", {}).get("steps") for row in rows], [None, 13, 13])  # one to warm up, and twice six

        self.refuse(UNSUPPORTED, *run, "--branch", "follow", "--draft", "ngram", naming="--draft ngram")
        self.refuse(INVALID_ARGUMENT, *run, "--branch", "follow", "--max-slowdown", "0", naming="max_slowdown")
        self.refuse(INVALID_ARGUMENT, "eval", self.out, "--text", self.other, "--branch", "follow", naming="--branch")
        plain = self.succeed("run", MODEL, "-p", "the thin", "-n", "8", "--temp", "0", "--branch", "follow", "--progress", "plain")
        self.assertIn("no branches", plain.err)
        self.assertEqual(plain.out, self.succeed("run", MODEL, "-p", "the thin", "-n", "8", "--temp", "0").out)

    @tool.long
    def test_comparing_tells_bytes_speed_and_what_branches_recover(self):
        low_rank, sparse = self.folder / "low_rank.gguf", self.folder / "sparse.gguf"
        self.succeed("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", *self.args)
        self.succeed("compress", MODEL, "-o", low_rank, "--bits", "2", "--branch-budget", "20%", "--form", "low-rank", "--polish", "off", *self.args)
        self.succeed("compress", MODEL, "-o", sparse, "--bits", "2", "--branch-reads", "1bpw", "--form", "sparse", *self.args)
        evaluation = ("eval", MODEL, "--compare", self.out, low_rank, sparse, "--reference", MODEL, "--text", self.other, "--ctx", "64", "--chunks", "4")
        document = self.document(*evaluation)
        models = document["models"]
        self.assertEqual(document["nearest"], {"stored": [str(file) for file in (MODEL, self.out, low_rank, sparse)], "read_per_token": [str(file) for file in (MODEL, self.out, low_rank, sparse)]})
        self.assertEqual([model["file"] for model in models], [str(MODEL), str(self.out), str(low_rank), str(sparse)])
        full, bare, branched, residual = models
        self.assertLess(full["kl"]["mean"], bare["kl"]["mean"] / 10)
        self.assertGreater(full["bytes"]["backbone"], 3 * bare["bytes"]["backbone"] / 2)
        self.assertEqual(bare["bytes"]["branches"], 0)
        self.assertNotIn("recovered", bare)
        self.assertEqual(branched["bytes"]["read_per_token"], branched["bytes"]["backbone"] + branched["bytes"]["branches"])
        self.assertLess(residual["bytes"]["read_per_token"], residual["bytes"]["backbone"] + residual["bytes"]["branches"] / 3)
        for model in (branched, residual):
            self.assertEqual(model["recovered_of"], model["file"])
            self.assertTrue(0.05 < model["recovered"]["value"] < 1)
            self.assertTrue(0 < model["recovered"]["error"] < 0.5)
        for model in models:
            self.assertGreater(model["tokens_per_s"], 0)
        text = self.succeed(*evaluation).out
        self.assertEqual(text.splitlines()[0].split()[1:7], ["backbone", "branches", "read/token", "device", "host", "tokens/s"])
        self.assertRegex(text, r"nearest for the bytes stored: .*small\.gguf")
        trained = self.folder / "trained.gguf"
        self.succeed("compress", MODEL, "-o", trained, "--bits", "2", *self.args)
        text = self.succeed("eval", low_rank, "--compare", trained, *evaluation[6:]).out
        self.assertIn(f"recovered by {low_rank}: of the distance of {trained}", text)
        other = self.folder / "other-vocabulary.gguf"
        shutil.copy(TINY / "mistral.gguf", other)
        self.refuse(INVALID_ARGUMENT, "eval", MODEL, "--compare", other, "--text", self.other, "--ctx", "64", naming="other-vocabulary")

    def test_the_quality_is_told_where_a_text_has_more_than_was_used(self):
        quality = self.document("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-reads", "1bpw", *self.calibration)["quality"]
        self.assertLess(quality["kl_compensated"], quality["kl_backbone"])
        self.assertAlmostEqual(quality["recovered"], 1 - quality["kl_compensated"] / quality["kl_backbone"])
        self.assertTrue(0 < quality["error"] < 1)
        bare = self.document("compress", MODEL, "-o", self.out, "--bits", "2", *self.calibration)["quality"]
        self.check_fields(bare, {"kl_backbone": 0.0, "kl_compensated": None, "recovered": None, "error": 0.0})
        run = ("compress", MODEL, "-o", self.out, "--bits", "2", "--calibration", self.text, "--ctx", "64")
        self.assertIsNone(self.document(*run, "--chunks", "12", "--quality-chunks", "0")["quality"])
        self.assertIsNone(self.document(*run, "--chunks", "5000")["quality"])
        self.assertIn("held-out text", self.succeed(*run, "--chunks", "12").out)

    def test_a_file_whose_quality_cannot_be_measured_is_there_all_the_same(self):
        self.text.write_text(self.text.read_text() * 3)
        run = ("compress", MODEL, "-o", self.out, "--bits", "2", "--calibration", self.text, "--ctx", "512", "--chunks", "2", "--polish", "off")  # the model's context is 256
        self.assertIn("was not measured", self.succeed(*run).err)
        self.assertIsNone(self.document(*run)["quality"])
        self.succeed("inspect", self.out)

    def test_a_slowdown_is_a_budget_for_what_is_read(self):
        run = ("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", *self.args)
        self.assertLess(0, self.document(*run, "--max-slowdown", "400%")["bytes"]["branch_reads_per_token"])
        self.refuse(INVALID_ARGUMENT, *run, "--max-slowdown", "0.01%", naming="max_slowdown")
        self.refuse(INVALID_ARGUMENT, *run, "--max-slowdown", "5%", "--branch-reads", "1bpw", naming="max_slowdown")
        self.refuse(USAGE, *run, "--max-slowdown", "slow", naming="--max-slowdown")

    def test_the_models_own_text_may_be_one_of_several(self):
        run = ("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", *self.args)
        self.succeed(*run)
        first = self.out.read_bytes()
        self.assertEqual(self.document(*run, "--own-text")["calibration_tokens"], 12 * 64)
        self.assertNotEqual(self.out.read_bytes(), first)

    def test_the_models_own_text_needs_no_more_memory_than_compressing_does(self):
        run = ("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", "--ctx", "64", "--chunks", "8", "--quality-chunks", "0")
        least = self.refuse(tool.BUDGET, *run, "--host-budget", "100kB", naming="for matrices as floats")["minimum_bytes"]
        self.succeed(*run, "--progress", "none", "--host-budget", str(least))

    def test_no_text_is_written_for_what_cannot_be_compressed(self):
        run = ("compress", MODEL, "--bits", "2", "--ctx", "64", "--chunks", "60000")  # a text that takes hours
        self.refuse(tool.BUDGET, *run, "-o", self.out, "--host-budget", "1kB", naming="vectors", timeout=20)
        self.refuse(INVALID_ARGUMENT, *run, "-o", MODEL, timeout=20)
        self.refuse(tool.IO, *run, "-o", self.out.parent / "none" / "small.gguf", timeout=20)

    def test_mixed_bits_are_what_was_asked_for_and_between_their_neighbours(self):
        document = self.document("compress", MODEL, "-o", self.out, "--bits", "mixed:3", "--polish", "off", *self.args)
        self.assertLessEqual(document["bits_per_weight"]["backbone"], 3)
        self.assertGreater(document["bits_per_weight"]["backbone"], 2.8)
        types = {tensor["type"] for tensor in self.document("inspect", self.out, "--tensors")["tensors"]}
        self.assertGreater(len(types & {"O2", "O3", "O4"}), 1)
        mixed = self.distance()
        self.succeed("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", *self.args)
        self.assertLess(mixed, self.distance())

    @tool.long
    def test_the_document_has_every_matrix_and_what_was_measured(self):
        document = self.document("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", "20%", "--form", "low-rank", "--polish", "3", *self.args)
        matrices, survey = document["matrices"], document["survey"]
        self.assertEqual(len(matrices), 21)
        self.assertEqual([matrix["kind"] for matrix in matrices[:7]], ["q", "k", "v", "output", "gate", "up", "down"])
        self.assertEqual(matrices[7]["name"], "blk.1.attn_q.weight")
        for part, total in (("backbone", "backbone"), ("branch", "branches"), ("branch_reads_per_token", "branch_reads_per_token")):
            self.assertEqual(sum(matrix["bytes"][part] for matrix in matrices), document["bytes"][total])
        for matrix in matrices:
            self.assertTrue(0.005 < matrix["loss"] < 0.5, matrix)
            self.assertEqual(matrix["rank"] > 0, matrix["bytes"]["branch"] > 0)
            if matrix["rank"] > 0:
                self.assertLess(matrix["loss_left"], matrix["loss"])
                self.assertTrue(0 < matrix["restored"] <= 1.001)
            else:
                self.assertEqual((matrix["loss_left"], matrix["restored"]), (matrix["loss"], 0))
        self.assertEqual((len(survey["kl_by_kind"]), len(survey["kl_by_layer"])), (7, 3))
        self.assertGreater(survey["kl"], max(survey["kl_by_layer"]))
        self.assertAlmostEqual(sum(matrix["kl"] for matrix in matrices), sum(survey["kl_by_kind"]), places=9)
        points = [(point["bytes"], point["restored"]) for point in survey["curve"]]
        self.assertEqual(points, sorted(points))
        self.assertEqual(points[0], (0, 0))
        self.assertLessEqual(points[-1][1], 1.001)
        residuals = self.document("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-reads", "1bpw", "--form", "sparse", *self.args)
        for matrix in residuals["matrices"]:
            if matrix["share"] > 0.5:
                self.assertLess(matrix["loss_left"], matrix["loss"] / 3)
        self.assertGreater(max(matrix["share"] for matrix in residuals["matrices"]), 0.5)

    @tool.long
    def test_training_takes_the_whole_model_a_layer_at_a_time_or_what_the_budget_has_room_for(self):
        command = ("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", "60kB", "--form", "low-rank", "--allocate", "uniform", "--polish", "20", "--polish-target", "branches", *self.args)
        whole = self.document(*command)["polish"]
        self.assertEqual((whole["scope"], whole["layers"]), ("end-to-end", []))
        document = self.document(*command, "--polish-scope", "block")
        block = document["polish"]
        self.assertEqual((block["scope"], [layer["layer"] for layer in block["layers"]]), ("block", [0, 1, 2]))
        self.assertTrue(block["is_kept"])
        self.assertLess(block["kl_after"], block["kl_before"])
        self.assertAlmostEqual(block["kl_before"], whole["kl_before"], places=4)
        self.assertLess(block["bytes"], whole["bytes"])
        first = self.out.read_bytes()
        self.assertEqual(self.document(*command, "--host-budget", str(whole["bytes"] - 1))["polish"], block)
        self.assertEqual(self.out.read_bytes(), first)
        self.assertEqual(self.document(*command, "--host-budget", str(whole["bytes"]))["polish"], whole)
        self.refuse(tool.BUDGET, *command, "--host-budget", "1kB", naming="training block by block")
        self.assertEqual(self.document(*command, "--polish-scope", "block", "--host-budget", str(document["memory"]["planned"]))["polish"], block)

    @tool.long
    def test_training_the_backbone_takes_no_byte_more_and_comes_nearer(self):
        command = ("compress", MODEL, "-o", self.out, "--bits", "2", *self.args)
        bare = self.document(*command, "--polish", "off")
        self.assertIsNone(bare["polish"])
        for scope in ("end-to-end", "block"):
            trained = self.document(*command, "--polish-target", "backbone", "--polish-scope", scope)
            self.assertEqual((trained["polish"]["scope"], trained["polish"]["is_kept"], trained["bytes"]["output"]), (scope, True, bare["bytes"]["output"]))
            self.assertLess(trained["polish"]["kl_after"], trained["polish"]["kl_before"])
        self.assertIsNone(self.document(*command, "--polish-target", "backbone", "--polish", "off")["polish"])
        self.refuse(tool.INVALID_ARGUMENT, *command, "--polish-target", "backbone", "--method", "hcinfer", naming="HCInfer does not train")
        self.refuse(tool.UNSUPPORTED, "compress", MIXTURE, "-o", self.out, "--polish-target", "backbone", *self.args, naming="mixture of experts")

    @tool.long
    def test_with_few_bits_the_backbone_is_trained_unless_memory_or_the_form_speaks_against_it(self):
        command = ("compress", MODEL, "-o", self.out, *self.args)
        trained = self.document(*command, "--bits", "2")["polish"]
        self.assertEqual((trained["scope"], trained["is_kept"]), ("end-to-end", True))
        self.assertIsNotNone(self.document(*command, "--bits", "mixed:3.9")["polish"])
        for options in (("--bits", "mixed:4.1"), ("--bits", "4"), ("--bits", "2", "--polish-scope", "block"), ("--bits", "2", "--host-budget", "1GB"), ("--bits", "2", "--method", "hcinfer"),
                        ("--bits", "2", "--form", "sparse", "--branch-reads", "1bpw"), ("--bits", "2", "--polish-target", "branches")):
            self.assertIsNone(self.document(*command, *options)["polish"], options)
        # Beside branches it is with two bits, and with three it is not.
        for bits, is_trained in (("2", True), ("3", False)):
            branched = (*command, "--bits", bits, "--branch-budget", "60kB", "--form", "low-rank", "--polish", "8")
            self.succeed(*branched)
            chosen = self.out.read_bytes()
            self.succeed(*branched, "--polish-target", "branches")
            self.assertEqual(chosen != self.out.read_bytes(), is_trained, bits)

    @tool.long
    def test_a_mixture_of_experts_is_compressed_and_as_near_as_the_dense_model_that_it_was_made_from(self):
        distances = []
        for bits in ("4", "mixed:3", "2"):
            document = self.document("compress", MIXTURE, "-o", self.out, "--bits", bits, *self.args)
            rows = {matrix["name"]: matrix for matrix in document["matrices"]}
            self.assertEqual(len(rows), 21)
            stack = rows["blk.1.ffn_up_exps.weight"]
            self.assertEqual((stack["kind"], stack["experts"], stack["rows"], stack["columns"]), ("up", 3, 128, 64))
            self.assertEqual(stack["bytes"]["backbone"] * 8, 3 * 128 * 64 * (stack["bits"] + 0.5))
            self.assertEqual(rows["blk.1.attn_q.weight"]["experts"], 1)
            distances.append(self.distance())  # from the dense model
        self.assertEqual(distances, sorted(distances))
        self.assertLess(distances[0], 0.3, distances)
        types = {tensor["name"]: tensor["type"] for tensor in self.document("inspect", self.out, "--tensors")["tensors"]}
        self.assertEqual((types["blk.0.ffn_down_exps.weight"], types["blk.0.ffn_gate_inp.weight"]), ("O2", "F32"))

    @tool.long
    def test_branches_of_a_mixture_are_not_of_its_experts_and_cannot_be_trained(self):
        branches = ("--bits", "2", "--branch-budget", "30kB", "--form", "low-rank")
        page = self.folder / "report.html"
        document = self.document("compress", MIXTURE, "-o", self.out, *branches, "--report", page, *self.args)
        self.assertTrue(0 < document["bytes"]["branches"] <= 30000)
        self.assertIsNone(document["polish"])
        self.assertEqual({matrix["kind"] for matrix in document["matrices"] if matrix["rank"] > 0} & {"gate", "up", "down"}, set())
        self.assertLess(self.distance(), self.distance("--branch", "none"))
        self.assertIn("blk.2.ffn_down_exps.weight", page.read_text())
        self.check_browser()
        self.assertEqual(self.check_rendered(page), 5)
        self.refuse(UNSUPPORTED, "compress", MIXTURE, "-o", self.folder / "again.gguf", *branches, "--polish", "3", *self.args, naming="polish_steps")
        self.refuse(INVALID_ARGUMENT, "compress", MIXTURE, "-o", self.folder / "again.gguf", "--branch-budget", "10", "--allocate", "uniform", *self.args, naming="too little")
        self.refuse(UNSUPPORTED, "export", self.out, "--backbone", self.folder / "again.gguf", naming="mixtures of experts")
        self.assertEqual(self.left(), ["small.gguf"])

    def test_experts_of_a_mixture_have_residuals_of_which_a_token_reads_what_its_experts_have(self):
        sparse = ("--bits", "2", "--branch-reads", "2bpw", "--form", "sparse", "--allocate", "uniform")
        document = self.document("compress", MIXTURE, "-o", self.out, *sparse, *self.args)
        for matrix in document["matrices"]:
            used = min(matrix["experts"], 2)
            self.assertEqual(matrix["bytes"]["branch"], matrix["experts"] * matrix["rows"] * matrix["columns"] * 18 // 32)
            self.assertAlmostEqual(matrix["bytes"]["branch_reads_per_token"], matrix["share"] * used * matrix["rows"] * matrix["columns"] * 18 / 32, delta=1)
        bits = document["bits_per_weight"]
        self.assertAlmostEqual(bits["branches"], 4.5)
        self.assertTrue(1.9 < bits["branch_reads"] <= 2.02, bits)  # the router counts in the budget
        self.assertLess(self.distance(), self.distance("--branch", "none"))
        first = self.out.read_bytes()
        self.document("compress", MIXTURE, "-o", self.out, *sparse, *self.args)
        self.assertEqual(self.out.read_bytes(), first)
        self.refuse(UNSUPPORTED, "export", self.out, "--backbone", self.folder / "again.gguf", naming="")

    @tool.long
    def test_the_report_is_a_page_that_a_browser_shows_whole(self):
        page = self.folder / "report.html"
        runs = {"bare": (("--polish", "off"), 1), "trained backbone": ((), 2), "trained": (("--branch-budget", "20%", "--polish", "3", "--form", "low-rank"), 6),
                "trained by layers": (("--branch-budget", "20%", "--polish", "3", "--form", "low-rank", "--polish-scope", "block"), 6),
                "residuals": (("--branch-reads", "1bpw", "--form", "sparse"), 5), "mixed": (("--bits", "mixed:3", "--polish", "off"), 3),
                "uniform": (("--branch-budget", "60kB", "--allocate", "uniform", "--polish", "off"), 3)}
        pages = {}
        for name, (options, drawings) in runs.items():
            bits = () if name == "mixed" else ("--bits", "2")
            self.succeed("compress", MODEL, "-o", self.out, "--report", page, *bits, *options, *self.args)
            pages[name] = text = page.read_text()
            self.assertEqual(text.count("<svg"), drawings, name)
            self.assertEqual("Nothing: with these options" in text, name in ("bare", "trained backbone", "uniform"))
            self.assertIn("blk.2.ffn_down.weight", text)
            self.assertNotRegex(text, r"(src|href)=|url\(|@import|nan|inf\b")
        self.assertEqual(page.stat().st_mode & 0o777, self.out.stat().st_mode & 0o777)
        self.check_browser()
        for name, text in pages.items():
            with self.subTest(name):
                page.write_text(text)
                self.assertEqual(self.check_rendered(page), runs[name][1])

    @tool.long
    def test_the_report_has_what_was_measured_on_text_that_was_not_used(self):
        page = self.folder / "report.html"
        command = ("compress", MODEL, "-o", self.out, "--bits", "2", "--polish", "off", "--report", page)
        residuals = ("--max-slowdown", "400%", "--form", "sparse")
        self.succeed(*command, *residuals, *self.args)
        unmeasured = page.read_text()
        quality = self.document(*command, *residuals, *self.calibration)["quality"]
        text = page.read_text()
        self.assertIn(f"{quality['kl_compensated']:.3f} nats", text)
        self.assertIn(f"{quality['kl_backbone']:.3f} without residuals", text)
        self.assertRegex(text, f"{quality['kl_compensated']:.4f} ± 0\\.\\d{{4}} nats a token; without residuals {quality['kl_backbone']:.4f} ± 0\\.\\d{{4}} nats a token")
        self.assertIn(f"{100 * quality['recovered']:.1f} ± {100 * quality['error']:.1f} %", text)
        told = [line for line in text.splitlines() if line not in unmeasured.splitlines()]
        self.assertTrue(all("not used" in line or "recovered" in line for line in told), told)
        self.assertNotIn("not used", unmeasured)
        self.assertEqual(page.stat().st_mode & 0o777, self.out.stat().st_mode & 0o777)
        quality = self.document(*command, *self.calibration)["quality"]
        self.assertRegex(page.read_text(), f"{quality['kl_backbone']:.4f} ± 0\\.\\d{{4}} nats a token<")
        self.check_browser()
        self.assertEqual(self.check_rendered(page), 1)

    @tool.long
    def test_the_report_does_not_depend_on_interruptions_and_cannot_take_the_models_place(self):
        page = self.folder / "report.html"
        command = ("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", "20%", "--polish", "3", *self.args, "--report")
        self.succeed(*command, page, "--no-resume")
        first = page.read_text()
        page.unlink()
        self.succeed(*command, page)
        self.assertEqual(page.read_text(), first)
        self.out.unlink()
        self.refuse(INVALID_ARGUMENT, *command, self.out, naming="same name")
        self.refuse(INVALID_ARGUMENT, *command, MODEL, naming=MODEL.name)
        self.refuse(tool.IO, *command, self.folder / "none" / "report.html", naming="report.html")
        self.assertEqual([name for name in self.everything_left() if name.startswith("small")], [])

    @tool.long
    def test_killed_a_hundred_times_and_begun_again_the_bytes_are_the_same(self):
        command = [tool.options.tool, "compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", "20%", "--form", "low-rank", "--polish", "4", "--calibration", self.text, "--ctx", "32", "--chunks", "6"]

        def start():
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=tool.environment())

        begun = time.monotonic()
        self.assertEqual(start().wait(), 0)
        seconds, expected = time.monotonic() - begun, self.out.read_bytes()
        self.out.unlink()
        moments, kills, finished, resumed = random.Random(7), 0, 0, 0
        while kills < (20 if tool.options.sanitizer else 100):
            process = start()
            try:
                self.assertEqual(process.wait(moments.uniform(0, seconds)), 0)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                if process.wait() == -signal.SIGKILL:
                    kills += 1
                    resumed += (self.folder / "small.gguf.progress").exists()
                    self.assertTrue(not self.out.exists() or self.out.read_bytes() == expected)
            if self.out.exists():
                finished += 1
                self.assertEqual(self.out.read_bytes(), expected)
                self.out.unlink()
        self.assertEqual(self.run_again(command), expected)
        self.assertGreater(finished, 0)
        self.assertGreater(resumed, kills // 4)
        self.assertEqual(self.everything_left(), ["other.txt", "text.txt"])

    def run_again(self, command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=tool.environment())
        made = self.out.read_bytes()
        self.out.unlink()
        return made

    def everything_left(self):
        return sorted(entry.name for entry in self.folder.iterdir())

    @tool.long
    def test_interrupted_it_says_where_it_goes_on_unless_told_not_to(self):
        self.text.write_text(self.text.read_text() * 8)
        longer = ("compress", MODEL, "-o", self.out, "--bits", "2", "--branch-budget", "20%", "--calibration", self.text, "--ctx", "64", "--chunks", "150")
        progress = self.folder / "small.gguf.progress"
        for attempt in range(20):
            process = tool.start(*longer)
            while process.poll() is None and not (progress.exists() and progress.stat().st_size > 400000):  # beyond the vectors of the second layer
                time.sleep(0.001)
            if process.poll() is None and tool.interrupt(process).code == tool.INTERRUPTED:
                break
            process.communicate()
        self.assertEqual(self.everything_left(), ["other.txt", "small.gguf.progress", "text.txt"])
        outcome = self.succeed(*longer)
        self.assertRegex(outcome.err, r"outrigger: going on after layer \d of 3( of the survey)?\n")
        self.assertEqual(self.everything_left(), ["other.txt", "small.gguf", "text.txt"])
        first = self.out.read_bytes()
        document = self.document(*longer, "--no-resume")
        self.assertEqual(document["resumed_windows"], 0)
        self.assertEqual(self.out.read_bytes(), first)

    def test_killed_at_any_moment_it_leaves_nothing_or_all(self):
        self.succeed("compress", MODEL, "-o", self.out, *self.args)
        whole = self.out.read_bytes()
        self.out.unlink()
        for delay in range(6):
            process = subprocess.Popen([tool.options.tool, "compress", MODEL, "-o", self.out, *map(str, self.args)], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env=tool.environment())
            time.sleep(0.01 * delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.returncode == -signal.SIGKILL and self.left() != []:  # it was measuring already
                self.assertEqual((self.left(), self.out.read_bytes()), (["small.gguf"], whole))
            self.out.unlink(missing_ok=True)


if __name__ == "__main__":
    tool.main()
