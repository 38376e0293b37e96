"""`eval` and `bench` on a model of one layer: the figures worked out again here from the logits they were made of."""
import array
import ast
import json
import math

import tool
from tool import CORRUPT_FILE, INVALID_ARGUMENT, ToolTest, valid

TEXT = "then the rain in the stones and on the shores where one hears another singing in the open air " * 5
CONTEXT = 32


def read_npy(path):
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    end = 10 + int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:end].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"]
    values = array.array("f")
    values.frombytes(data[end:])
    rows, columns = header["shape"]
    assert len(values) == rows * columns
    return [values[i * columns:(i + 1) * columns] for i in range(rows)]


def log_softmax(row):
    largest = max(row)
    log_sum = largest + math.log(math.fsum(math.exp(x - largest) for x in row))
    return [x - log_sum for x in row]


class Eval(ToolTest):
    def setUp(self):
        self.text = tool.options.scratch / "text"
        self.text.write_text(TEXT)
        self.args = ("eval", valid(), "--text", self.text, "--ctx", CONTEXT)

    def logits(self, *more):
        path = tool.options.scratch / "logits.npy"
        path.unlink(missing_ok=True)
        document = self.document(*self.args, "--logits", path, *more)
        return document, read_npy(path)

    def answers(self):
        ids = self.document("tokenize", valid(), TEXT, "--special")["ids"]
        chunks = len(ids) // CONTEXT
        return [token for i in range(chunks) for token in ids[i * CONTEXT + CONTEXT // 2 + 1:(i + 1) * CONTEXT]]

    def test_perplexity_is_that_of_the_logits_it_writes(self):
        document, rows = self.logits()
        answers = self.answers()
        self.assertGreater(len(answers), 100)
        self.assertEqual(document["tokens_scored"], len(answers))
        self.assertEqual((len(rows), len(rows[0])), (len(answers), 300))
        nll = [-log_softmax(row)[answer] for row, answer in zip(rows, answers)]
        mean = math.fsum(nll) / len(nll)
        scored = CONTEXT - 1 - CONTEXT // 2  # of a chunk
        chunks = [math.fsum(nll[i:i + scored]) / scored for i in range(0, len(nll), scored)]
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in chunks) / len(chunks) / (len(chunks) - 1))
        self.assertAlmostEqual(document["perplexity"]["value"] / math.exp(mean), 1, places=9)
        self.assertAlmostEqual(document["perplexity"]["error"] / (math.exp(mean) * deviation), 1, places=6)
        self.assertGreater(document["seconds"], 0)
        self.assertNotIn("kl", document)

    def test_the_distance_from_float32_is_that_of_both_runs_logits(self):
        document, rows = self.logits("--reference-numerics", "float32")
        unused, reference_rows = self.logits("--numerics", "float32")
        divergences, same = [], 0
        for row, reference_row in zip(rows, reference_rows):
            q, p = log_softmax(row), log_softmax(reference_row)
            divergences.append(math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q)))
            same += max(range(300), key=row.__getitem__) == max(range(300), key=reference_row.__getitem__)
        mean = math.fsum(divergences) / len(divergences)
        self.assertGreater(mean, 0)
        self.assertAlmostEqual(document["kl"]["mean"] / mean, 1, places=5)
        self.assertAlmostEqual(document["kl"]["max"] / max(divergences), 1, places=5)
        self.assertLessEqual(document["kl"]["p99"], document["kl"]["max"])
        self.assertGreater(document["kl"]["error"], 0)
        self.assertAlmostEqual(document["same_top"]["value"], same / len(rows))
        self.assertEqual(document["reference_perplexity"], unused["perplexity"])

    def test_a_model_is_no_distance_from_itself(self):
        for more in (("--reference-numerics", "fast"), ("--reference", valid(), "--reference-numerics", "fast")):
            document = self.document(*self.args, *more)
            self.assertEqual((document["kl"]["mean"], document["kl"]["max"]), (0, 0))
            self.assertEqual(document["same_top"]["value"], 1)
            self.assertEqual(document["perplexity"], document["reference_perplexity"])
        text = self.succeed(*self.args, "--reference-numerics", "fast").out
        self.assertIn("KL divergence", text)

    def test_fewer_chunks_score_fewer_tokens(self):
        self.assertEqual(self.document(*self.args, "--chunks", "2")["tokens_scored"], 2 * (CONTEXT - 1 - CONTEXT // 2))

    def test_what_cannot_be_evaluated(self):
        self.text.write_text("short")
        self.refuse(INVALID_ARGUMENT, *self.args, naming="chunk")
        self.text.write_text(TEXT)
        self.refuse(INVALID_ARGUMENT, *self.args, "--reference", tool.options.tiny / "valid_bpe.gguf", naming="vocabulary")
        blocked = tool.options.scratch / "no" / "such.npy"
        self.refuse(tool.NOT_FOUND, *self.args, "--logits", blocked, naming="such.npy")

    def test_a_budget_changes_no_figure(self):
        free = self.document(*self.args)
        minimum = self.refuse(tool.BUDGET, *self.args, "--host-budget", "1KiB")["minimum_bytes"]
        tight = self.document(*self.args, "--host-budget", str(minimum))
        self.assertEqual(tight["perplexity"], free["perplexity"])


class Task(ToolTest):
    def log_likelihood(self, context, choice):
        """Of the choice's tokens, from the logits that `eval --text` would score: computed here from next-token perplexities."""
        path = tool.options.scratch / "one.txt"
        path.write_text(context + choice)
        ids = self.document("tokenize", valid(), context + choice, "--special")["ids"]
        before = self.document("tokenize", valid(), context, "--special")["ids"]
        shared = 0
        while shared < len(before) and before[shared] == ids[shared]:
            shared += 1
        npy = tool.options.scratch / "one.npy"
        # One chunk of all tokens: its second half has a row for each token of the choice, as the context is the longer part.
        self.document("eval", valid(), "--text", path, "--ctx", len(ids), "--logits", npy)
        rows = read_npy(npy)
        self.assertGreaterEqual(shared, len(ids) // 2 + 1)
        return sum(log_softmax(rows[i - len(ids) // 2 - 1])[ids[i]] for i in range(shared, len(ids)))

    def test_accuracy_is_that_of_the_likeliest_choice(self):
        examples = [("then the rain in the stones and", [" on the shores", " q"]), ("one hears another singing in the", [" zz", " open air", " k"])]
        best, best_normalised = [], []
        for context, choices in examples:
            sums = [self.log_likelihood(context, choice) for choice in choices]
            best.append(sums.index(max(sums)))
            normalised = [value / len(choice) for value, choice in zip(sums, choices)]
            best_normalised.append(normalised.index(max(normalised)))
        path = tool.options.scratch / "task.jsonl"
        lines = [{"context": context, "choices": choices, "answer": answer} for (context, choices), answer in zip(examples, best)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        task = self.document("eval", valid(), "--task", path)["task"]
        self.assertEqual((task["examples"], task["accuracy"]["value"]), (2, 1))
        expected = sum(a == b for a, b in zip(best, best_normalised)) / 2
        self.assertEqual(task["accuracy_normalised"]["value"], expected)
        lines[0]["answer"] = 1 - lines[0]["answer"]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.assertEqual(self.document("eval", valid(), "--task", path)["task"]["accuracy"]["value"], 0.5)

    def test_a_line_that_is_none_is_named(self):
        path = tool.options.scratch / "task.jsonl"
        for line in ("[]", '{"context":"a","choices":["b"],"answer":0}', '{"context":"a","choices":["b","c"],"answer":2}',
                     '{"context":"a","choices":["b",""],"answer":0}', '{"context":1,"choices":["b","c"],"answer":0}'):
            path.write_text('{"context":"a","choices":["b","c"],"answer":0}\n' + line + "\n")
            self.refuse(CORRUPT_FILE, "eval", valid(), "--task", path, naming="line 2")


class Bench(ToolTest):
    FIELDS = {"test": "", "model_filename": "", "model_type": "", "model_size": 0, "model_n_params": 0, "cpu_info": "", "n_threads": 0,
              "n_batch": 0, "n_prompt": 0, "n_gen": 0, "n_depth": 0, "batch": 0, "test_time": "", "avg_ns": 0, "stddev_ns": 0, "avg_ts": 0.0,
              "stddev_ts": 0.0, "samples_ns": [], "samples_ts": [], "weight_bytes_per_s": 0.0, "fraction_of_peak": 0.0, "peak_bytes": 0}

    def test_a_row_for_each_figure(self):
        rows = self.document("bench", valid(), "-p", "8,16", "-n", "4", "--verify", "4", "--depth", "0,16", "--repeat", "3")
        self.assertEqual([(row["test"], row["n_depth"]) for row in rows],
                         [(test, depth) for depth in (0, 16) for test in ("pp8", "pp16", "tg4", "verify4")])
        for row in rows:
            self.check_fields(row, self.FIELDS)
            self.assertEqual((len(row["samples_ns"]), len(row["samples_ts"])), (3, 3))
            tokens = row["n_prompt"] + row["n_gen"]
            self.assertEqual(row["test"].lstrip("abcdefghijklmnopqrstuvwxyz"), str(tokens))
            for ns, rate in zip(row["samples_ns"], row["samples_ts"]):
                self.assertAlmostEqual(rate * (ns / 1e9) / tokens, 1, places=2)
            self.assertGreater(row["weight_bytes_per_s"], 0)
            self.assertGreater(row["fraction_of_peak"], 0)
        text = self.succeed("bench", valid(), "-p", "8", "-n", "0", "--repeat", "1").out
        self.assertIn("pp8", text)
        self.assertNotIn("tg", text)

    def test_batches_are_rows_of_their_own(self):
        # Every run is predicted by a measurement of the machine, which takes 13 s with a sanitizer.
        depths, repeats = ((9,), 1) if tool.options.sanitizer else ((0, 9), 2)
        rows = self.document("bench", valid(), "-p", "8", "-n", "4", "--batch", "1,3,5", "--depth", ",".join(map(str, depths)), "--repeat", repeats, "--predict")
        self.assertEqual([(row["test"], row["batch"], row["n_depth"]) for row in rows],
                         [(test, batch, depth) for depth in depths for test, batch in (("pp8", 1), ("tg4", 1), ("tg4", 3), ("tg4", 5))])
        for row in rows:
            tokens = (row["n_prompt"] or row["n_gen"]) * row["batch"]
            for ns, rate in zip(row["samples_ns"], row["samples_ts"]):
                self.assertAlmostEqual(rate * (ns / 1e9) / tokens, 1, places=2)
            self.assertAlmostEqual(row["predicted_ts"], tokens * 1e9 / (math.fsum(row["predicted_ns"]) / repeats), delta=1e-6 * row["predicted_ts"])
        text = self.succeed("bench", valid(), "-p", "0", "-n", "4", "--batch", "3", "--depth", "2", "--repeat", "1").out
        self.assertIn("tg4 x 3 @ d2", text)
        self.succeed("bench", valid(), "-p", "4", "-n", "0", "--batch", "3", "--repeat", "1")
        minimum = self.refuse(tool.BUDGET, "bench", valid(), "-p", "0", "-n", "4", "--batch", "4", "--host-budget", "1KiB")["minimum_bytes"]
        least = self.document("bench", valid(), "-p", "0", "-n", "4", "--batch", "4", "--repeat", "1", "--predict", "--host-budget", minimum)
        self.assertEqual((least[0]["n_batch"], least[0]["batch"]), (1, 4))

    def test_predictions_come_beside_each_run_where_they_are_asked_for(self):
        minimum = self.refuse(tool.BUDGET, "bench", valid(), "-p", "40", "-n", "4", "--host-budget", "1KiB")["minimum_bytes"]
        repeats = 1 if tool.options.sanitizer else 2
        for more in ((), ("--host-budget", str(minimum))):
            rows = self.document("bench", valid(), "-p", "40", "-n", "4", "--verify", "5", "--depth", "7", "--repeat", repeats, "--predict", *more)
            self.assertEqual(len(rows), 3)
            for row in rows:
                self.assertEqual(len(row["predicted_ns"]), repeats)
                self.assertGreater(min(row["predicted_ns"]), 0)
                tokens = row["n_prompt"] or row["n_gen"]
                self.assertAlmostEqual(row["predicted_ts"], tokens * 1e9 / (math.fsum(row["predicted_ns"]) / repeats), delta=1e-6 * row["predicted_ts"])
        self.assertNotIn("predicted_ns", self.document("bench", valid(), "-p", "3", "-n", "0", "--repeat", "1")[0])
        self.assertIn("predicted", self.succeed("bench", valid(), "-p", "3", "-n", "0", "--repeat", "1", "--predict").out)

    def test_nothing_to_measure_and_more_than_the_model_holds(self):
        self.refuse(INVALID_ARGUMENT, "bench", valid(), "-p", "0", "-n", "0", naming="nothing")
        self.refuse(INVALID_ARGUMENT, "bench", valid(), "-p", "4096", "-n", "0")


if __name__ == "__main__":
    tool.main()
