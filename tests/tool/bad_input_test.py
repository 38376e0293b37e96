"""Every malformed model through `outrigger run`: its documented exit code, one line, within seconds, never a signal."""
import json
import time

import tool
from tool import NAMES, ToolTest, run

EXIT_CODES = {name: code for code, name in NAMES.items()}


def read_catalogue(folder, least):
    """Its rows, at least so many. With a sanitizer, which makes a process ten times as slow to start, every third: the library's own tests have all of them."""
    rows = [line.split("\t") for line in (folder / "catalogue.tsv").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= least, f"{folder} has {len(rows)} rows, need {least}"
    return rows[::3] if tool.options.sanitizer else rows


class BadInput(ToolTest):
    def test_every_malformed_model_is_refused_as_the_catalogue_says(self):
        rows = read_catalogue(tool.options.tiny, 80)
        for file, level, code, text, offset in rows:
            with self.subTest(file=file):
                began = time.monotonic()
                outcome = run("run", tool.options.tiny / file, "-p", "a", "-n", "1", "--json")
                seconds = time.monotonic() - began
                expected = int(code) if code.isdigit() else EXIT_CODES[code]
                self.assertEqual(outcome.code, expected, outcome)
                self.assertEqual(outcome.err.count("\n"), 1, outcome)
                self.assertEqual(json.loads(outcome.out)["error"]["code"], expected)
                # The parser's own limit of a second is tested beside it; this one has a process to start on a machine that is busy.
                self.assertLess(seconds, 10)

    def test_every_malformed_directory_is_refused_as_the_catalogue_says(self):
        rows = read_catalogue(tool.options.hf, 250)
        for name, level, code, text, offset in rows:
            with self.subTest(name=name):
                began = time.monotonic()
                outcome = run("run", tool.options.hf / name, "-p", "a", "-n", "1", "--json")
                self.assertEqual(outcome.code, EXIT_CODES[code], outcome)
                self.assertEqual(outcome.err.count("\n"), 1, outcome)
                self.assertEqual(json.loads(outcome.out)["error"]["code"], EXIT_CODES[code])
                self.assertLess(time.monotonic() - began, 10)

    def test_the_models_they_were_made_from_run(self):
        for name in ("valid.gguf", "valid_bpe.gguf"):
            self.succeed("run", tool.options.tiny / name, "-p", "a", "-n", "1")
        for name in ("valid", "valid_shards"):
            self.succeed("run", tool.options.hf / name, "-p", "a", "-n", "1")


if __name__ == "__main__":
    tool.main()
