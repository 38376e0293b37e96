"""Every command on Hugging Face directories: one file, two files with an index, a path to a file inside, an order that a cache has."""
import os
import pathlib
import shutil

import tool
from tool import BUDGET, CORRUPT_FILE, IO, ToolTest


class Directories(ToolTest):
    def setUp(self):
        self.one, self.two, self.larger = (tool.options.hf / name for name in ("valid", "valid_shards", "valid_larger"))

    def test_run_answers_the_same_under_every_budget_and_by_every_path(self):
        for folder in (self.one, self.two, self.larger):
            args = ("-p", "the rein", "-n", "12", "--temp", "0", "--ignore-eos")
            free = self.document("run", folder, *args, "--host-budget", "0")
            self.assertEqual(free["model"]["file"], str(folder))
            self.assertEqual(free["model"]["bytes"], sum(f.stat().st_size for f in folder.glob("*.safetensors")))
            minimum = self.refuse(BUDGET, "run", folder, *args, "--host-budget", "1KiB")["minimum_bytes"]
            tight = self.document("run", folder, *args, "--host-budget", str(minimum))
            self.assertEqual(tight["tokens"], free["tokens"])
            if folder == self.larger:
                self.assertGreater(tight["streamed"]["disk_bytes"], 0)
            self.assertEqual(self.document("run", folder / "config.json", *args)["tokens"], free["tokens"])

    def test_inspect_says_what_a_directory_is_and_which_file_holds_a_tensor(self):
        document = self.document("inspect", self.two, "--tensors")
        self.assertEqual((document["architecture"], document["layers"], document["tokenizer"]), ("llama", 1, "spm"))
        self.assertTrue(document["can_run"])
        files = {pathlib.Path(tensor["file"]).name for tensor in document["tensors"]}
        self.assertEqual(files, {f.name for f in self.two.glob("*.safetensors")})
        for tensor in document["tensors"]:
            self.assertLessEqual(tensor["file_offset"] + tensor["bytes"], pathlib.Path(tensor["file"]).stat().st_size)
        self.assertIn("blk.0.attn_q.weight", self.succeed("inspect", self.two, "--tensors").out)

    def test_plan_tokenize_eval_bench_and_profile_take_directories(self):
        self.assertTrue(self.document("plan", self.one, "--host-budget", "0")["feasible"])
        ids = self.document("tokenize", self.two, "the inn", "--special")["ids"]
        self.assertEqual(ids[0], 1)
        text = tool.options.scratch / "text.txt"
        text.write_text("the inn in the other one " * 40)
        self.assertGreater(self.document("eval", self.one, "--text", text, "--ctx", "32")["tokens_scored"], 0)
        self.assertEqual(len(self.document("bench", self.one, "-p", "8", "-n", "4", "--repeat", "1")), 2)
        self.document("profile", "--disk", self.two, "--again")

    def test_a_cache_of_links_to_blobs_opens_and_other_links_do_not(self):
        cache = tool.options.scratch / "models--tiny"
        shutil.rmtree(cache, ignore_errors=True)
        snapshot, blobs = cache / "snapshots" / "main", cache / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        for i, file in enumerate(sorted(self.two.iterdir())):
            shutil.copy(file, blobs / str(i))
            os.symlink(f"../../blobs/{i}", snapshot / file.name)
        args = ("-p", "the", "-n", "4", "--temp", "0", "--ignore-eos")
        self.assertEqual(self.document("run", snapshot, *args)["tokens"], self.document("run", self.two, *args)["tokens"])
        (snapshot / "config.json").unlink()
        os.symlink(self.two / "config.json", snapshot / "config.json")
        self.refuse(CORRUPT_FILE, "run", snapshot, *args, naming="leads out of the model's directory")

    def test_a_directory_of_something_else_is_refused(self):
        self.refuse(IO, "run", tool.options.scratch, "-p", "a", naming="without config.json")


if __name__ == "__main__":
    tool.main()
