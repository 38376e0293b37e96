"""`pack` on the tiny models: the file it writes, the same text from it, what it refuses, and that nothing is left then."""
import os
import pathlib
import resource
import shutil
import subprocess

import tool
from tool import CORRUPT_FILE, INVALID_ARGUMENT, IO, NOT_FOUND, UNSUPPORTED, USAGE, ToolTest, valid


class Pack(ToolTest):
    def setUp(self):
        self.folder = tool.options.scratch / "pack"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.out = self.folder / "packed.gguf"

    def left(self):
        return sorted(entry.name for entry in self.folder.iterdir())

    def test_the_file_is_the_documented_one_and_the_document_counts_it(self):
        document = self.document("pack", valid(), "-o", self.out)
        self.check_fields(document, {"file": "", "bytes": {"input": 0, "output": 0}, "tensors": {"packed": 0, "as_they_were": 0}, "seconds": 0.0})
        self.assertEqual(self.out.read_bytes(), (tool.options.tiny / "valid_packed.gguf").read_bytes())
        self.assertEqual(document["file"], str(self.out))
        self.assertEqual(document["bytes"], {"input": valid().stat().st_size, "output": self.out.stat().st_size})
        self.assertEqual(document["tensors"], {"packed": 8, "as_they_were": 4})
        self.assertEqual(self.left(), ["packed.gguf"])
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o666 & ~mask)

        text = self.succeed("pack", valid(), "--output", self.out).out
        self.assertIn(str(self.out), text)
        self.assertIn("8 of 12 tensors", text)

    def test_its_text_is_the_same_and_so_is_what_inspect_says_of_it(self):
        for model in (valid(), tool.options.tiny / "valid_bpe.gguf", tool.options.tiny / "valid_qwen3.gguf"):
            with self.subTest(model=model.name):
                self.succeed("pack", model, "-o", self.out)
                args = ("-p", "the rain", "-n", "12", "--temp", "0", "--ignore-eos")
                plain, packed = (self.document("run", path, *args) for path in (model, self.out))
                self.assertEqual(packed["tokens"], plain["tokens"])
                before, after = (self.document("inspect", path, "--tensors") for path in (model, self.out))
                self.assertEqual((before["packed"], after["packed"]), (False, True))
                for field in ("name", "architecture", "parameters", "context_tokens", "tokenizer", "vocabulary_tokens", "can_run"):
                    self.assertEqual(after[field], before[field])
                types = {tensor["name"]: tensor["type"] for tensor in before["tensors"]}
                self.assertEqual({tensor["name"]: tensor["type"] for tensor in after["tensors"]}, types)
                for tensor in after["tensors"]:
                    self.assertEqual(tensor["packed"], len(tensor["shape"]) == 2 and tensor["name"] != "token_embd.weight", tensor)
                    self.assertEqual(tensor["file_offset"] % 4096, 0)
                self.assertRegex(self.succeed("inspect", self.out).out, r"\npacked +yes")
                self.assertNotIn("packed", self.succeed("inspect", model).out)

    def test_the_smallest_budget_streams_the_same_text(self):
        self.succeed("pack", valid(), "-o", self.out)
        args = ("-p", "the rain", "-n", "8", "--temp", "0", "--ignore-eos")
        minimum = self.refuse(tool.BUDGET, "run", self.out, *args, "--host-budget", "1kB")["minimum_bytes"]
        tight = self.document("run", self.out, *args, "--host-budget", str(minimum))
        self.assertGreater(tight["streamed"]["disk_bytes"], 0)
        self.assertEqual(tight["tokens"], self.document("run", valid(), *args)["tokens"])

    def test_what_cannot_be_is_refused_and_nothing_is_left(self):
        self.refuse(USAGE, "pack", valid(), naming="--help'")
        self.refuse(USAGE, "pack", "-o", self.out, naming="--help'")
        self.refuse(NOT_FOUND, "pack", "/nonexistent/model.gguf", "-o", self.out, naming="/nonexistent/model.gguf")
        self.refuse(CORRUPT_FILE, "pack", tool.options.tiny / "packed_norm.gguf", "-o", self.out, naming="attn_norm")
        self.refuse(UNSUPPORTED, "pack", tool.options.tiny / "packed_layout_2.gguf", "-o", self.out, naming="layout 2")
        self.refuse(IO, "pack", valid(), "-o", "/nonexistent/packed.gguf", naming="/nonexistent/packed.gguf")
        self.refuse(IO, "pack", valid(), "-o", self.folder, naming=str(self.folder))
        self.assertEqual(self.left(), [])
        model = self.folder / "model.gguf"
        shutil.copy(valid(), model)
        self.refuse(INVALID_ARGUMENT, "pack", model, "-o", model, naming="model.gguf")
        self.assertEqual(model.read_bytes(), valid().read_bytes())
        self.assertEqual(self.left(), ["model.gguf"])

    def test_a_file_beyond_the_limit_is_an_error_and_no_signal(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

        process = subprocess.run([str(tool.options.tool), "pack", str(valid()), "-o", str(self.out)], capture_output=True, env=tool.environment(),
                                 preexec_fn=limit, restore_signals=True)
        self.assertEqual(process.returncode, IO, process.stderr)
        self.assertIn(b"File too large", process.stderr)
        self.assertEqual(self.left(), [])

    def test_a_full_disk_is_an_error_and_nothing_is_left(self):
        mount = ["unshare", "--mount", "--map-root-user", "sh", "-c",
                 'mount -t tmpfs -o size=40k none "$1" && { "$2" pack "$3" -o "$1/packed.gguf"; code=$?; ls "$1"; exit $code; }',
                 "sh", str(self.folder), str(tool.options.tool), str(valid())]
        try:
            process = subprocess.run(mount, capture_output=True, env=tool.environment())
        except FileNotFoundError:
            self.skipTest("there is no unshare")
        if process.returncode in (1, 32):
            self.skipTest(f"no file system of its own here: {process.stderr!r}")
        self.assertEqual(process.returncode, IO, process.stderr)
        self.assertIn(b"No space left", process.stderr)
        self.assertEqual(process.stdout, b"")

    def test_a_directory_is_packed_too(self):
        if tool.options.hf is None:
            self.skipTest("no directories given")
        directory = next(iter(sorted(pathlib.Path(tool.options.hf).glob("valid*"))), None)
        self.assertIsNotNone(directory, "the fixture has a valid directory")
        self.succeed("pack", directory, "-o", self.out)
        args = ("-p", "a", "-n", "6", "--temp", "0", "--ignore-eos")
        self.assertEqual(self.document("run", self.out, *args)["tokens"], self.document("run", directory, *args)["tokens"])


if __name__ == "__main__":
    tool.main()
