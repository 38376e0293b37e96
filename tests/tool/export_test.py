"""`export` on a tiny model: both files, that another program's reader opens them, what is refused, and that nothing is left then."""
import importlib.util
import pathlib
import resource
import shutil
import subprocess
import unittest

import tool
from tool import INVALID_ARGUMENT, IO, NOT_FOUND, UNSUPPORTED, USAGE, ToolTest

MODEL = pathlib.Path(__file__).parent.parent / "golden" / "logits" / "dense-f16.gguf"


class Export(ToolTest):
    @classmethod
    def setUpClass(cls):
        folder = tool.options.scratch / "compressed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        cls.text = folder / "text.txt"
        cls.text.write_text(" ".join(f"the {n} in then {n * n}" for n in range(400)))
        cls.files = {name: folder / f"{name}.gguf" for name in ("plain", "branched", "sparse")}
        for name, options in {"plain": (), "branched": ("--branch-budget", "20%", "--form", "low-rank", "--polish", "off"), "sparse": ("--branch-reads", "1bpw", "--form", "sparse")}.items():
            outcome = tool.run("compress", MODEL, "-o", cls.files[name], "--bits", "2", "--calibration", cls.text, "--ctx", "64", "--chunks", "8",
                               *options)
            assert outcome.code == 0, outcome

    def setUp(self):
        self.folder = tool.options.scratch / "export"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.backbone, self.adapter = self.folder / "backbone.gguf", self.folder / "adapter.gguf"
        self.both = ("--backbone", self.backbone, "--adapter", self.adapter)

    def left(self):
        return sorted(entry.name for entry in self.folder.iterdir())

    def test_the_document_counts_both_files(self):
        document = self.document("export", self.files["branched"], *self.both)
        self.check_fields(document, {"backbone": "", "adapter": "", "bytes": {"input": 0, "backbone": 0, "adapter": 0},
                                     "tensors": {"recoded": 0, "branches": 0}, "adapter_error": 0.0, "seconds": 0.0})
        self.assertEqual(document["bytes"], {"input": self.files["branched"].stat().st_size, "backbone": self.backbone.stat().st_size,
                                             "adapter": self.adapter.stat().st_size})
        self.assertEqual(document["tensors"]["recoded"], 3 * 7)
        self.assertGreater(document["tensors"]["branches"], 0)
        self.assertLess(document["adapter_error"], 2 ** -11)
        self.assertEqual(self.left(), ["adapter.gguf", "backbone.gguf"])
        text = self.succeed("export", self.files["branched"], *self.both)
        self.assertIn(str(self.backbone), text.out)
        self.assertIn("low-rank branches", text.out)
        self.assertEqual(text.err, "")
        self.assertIn("adapter", self.document("inspect", self.adapter)["why_not"])

    def test_without_an_adapter_it_says_what_is_left_out(self):
        outcome = self.succeed("export", self.files["branched"], "--backbone", self.backbone, "--json")
        self.assertIn("worse without them", outcome.err)
        self.assertEqual(outcome.err.count("\n"), 1)
        self.assertIn('"adapter":null', outcome.out.replace(" ", ""))
        self.assertEqual(self.succeed("export", self.files["plain"], "--backbone", self.backbone).err, "")
        self.assertEqual(self.left(), ["backbone.gguf"])

    def test_the_backbone_predicts_what_the_compressed_model_predicts_without_branches(self):
        self.succeed("export", self.files["branched"], *self.both)
        evaluation = ("--text", self.text, "--ctx", "64", "--chunks", "6", "--numerics", "float32")
        expected = self.document("eval", self.files["branched"], *evaluation, "--branch", "none")["perplexity"]["value"]
        self.assertAlmostEqual(self.document("eval", self.backbone, *evaluation)["perplexity"]["value"] / expected, 1, places=5)
        self.assertNotAlmostEqual(self.document("eval", self.files["branched"], *evaluation)["perplexity"]["value"] / expected, 1, places=2)

    @unittest.skipUnless(importlib.util.find_spec("gguf"), "the Python package gguf is not installed")
    def test_the_python_package_reads_both_and_finds_the_same_values(self):
        import gguf
        import numpy
        self.succeed("export", self.files["branched"], *self.both)
        ours, backbone, adapter = (gguf.GGUFReader(path) for path in (self.files["branched"], self.backbone, self.adapter))
        types = {tensor.name: tensor.tensor_type for tensor in backbone.tensors}
        self.assertEqual({types[name] for name in types if name.startswith("blk.") and "norm" not in name}, {gguf.GGMLQuantizationType.Q4_1})
        before = {tensor.name: tensor for tensor in ours.tensors}
        for tensor in backbone.tensors:
            if tensor.tensor_type != gguf.GGMLQuantizationType.Q4_1:
                numpy.testing.assert_array_equal(tensor.data, before[tensor.name].data)
        field = lambda name: adapter.fields[name].contents()
        self.assertEqual((field("general.type"), field("adapter.type"), field("adapter.lora.alpha")), ("adapter", "lora", 0))
        self.assertGreater(len(adapter.tensors), 0)
        for tensor in adapter.tensors:
            part = tensor.name[:-len("weight.lora_a")] + "branch_" + tensor.name[-1]
            want = gguf.dequantize(before[part].data, before[part].tensor_type)
            numpy.testing.assert_array_equal(tensor.data, want.astype(numpy.float16))
            if tensor.name.endswith("lora_a"):
                weight = next(other for other in backbone.tensors if tensor.name.startswith(other.name))
                self.assertEqual(tensor.shape[0], weight.shape[0])

    def test_what_cannot_be_is_refused_and_nothing_is_left(self):
        branched = self.files["branched"]
        self.refuse(USAGE, "export", branched, naming="--help'")
        self.refuse(USAGE, "export", "--backbone", self.backbone, naming="--help'")
        self.refuse(NOT_FOUND, "export", "/nonexistent/model.gguf", *self.both, naming="/nonexistent/model.gguf")
        self.refuse(INVALID_ARGUMENT, "export", MODEL, "--backbone", self.backbone, naming="not compressed")
        self.refuse(INVALID_ARGUMENT, "export", self.files["plain"], *self.both, naming="no low-rank branches")
        self.refuse(UNSUPPORTED, "export", self.files["sparse"], "--backbone", self.backbone, naming="residuals")
        self.refuse(INVALID_ARGUMENT, "export", branched, "--backbone", self.backbone, "--adapter", f"{self.folder}/./backbone.gguf", naming="two names")
        self.refuse(IO, "export", branched, "--backbone", "/nonexistent/backbone.gguf", naming="/nonexistent/backbone.gguf")
        self.refuse(IO, "export", branched, "--backbone", self.backbone, "--adapter", self.folder, naming=str(self.folder))
        self.assertEqual(self.left(), [])
        copy = self.folder / "small.gguf"
        shutil.copy(branched, copy)
        self.refuse(INVALID_ARGUMENT, "export", copy, "--backbone", copy, naming="small.gguf")
        self.refuse(INVALID_ARGUMENT, "export", copy, "--backbone", self.backbone, "--adapter", copy, naming="small.gguf")
        self.assertEqual(copy.read_bytes(), branched.read_bytes())
        self.assertEqual(self.left(), ["small.gguf"])

    def test_a_file_that_may_not_grow_so_large_is_an_error_and_nothing_is_left(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        process = subprocess.run([tool.options.tool, "export", self.files["branched"], *map(str, self.both)], capture_output=True, preexec_fn=limit,
                                 env=tool.environment())
        self.assertEqual(process.returncode, IO, process.stderr)
        self.assertIn(b"File too large", process.stderr)
        self.assertEqual(self.left(), [])


if __name__ == "__main__":
    tool.main()
