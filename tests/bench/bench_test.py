#!/usr/bin/env python3
"""The logic behind the benchmarks' tables and verdicts, on invented figures: bench_test.py"""
import argparse
import contextlib
import io
import math
import os
import struct
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import accuracy
import alternation
import busy
import chart
import compare_llamacpp
import export_peer
import grid
import models
import report
import slot_schedule
import targets


def a_round(tg=(300, 100), pp=(3000, 400), batch=(1200, 300), weights=30e9, stream=50e9):
    return {"ours": {"tg": tg[0], "pp": pp[0], "batch": batch[0], "verify": batch[0] / 2}, "peer": {"tg": tg[1], "pp": pp[1], "batch": batch[1]},
            "weights": weights, "stream": stream}


def a_result(rounds, others=0.01, **more):
    case = targets.find_case("default")
    return {"peer": "peer", "peer_build": "1 (abc)", "threads": 2, "processor": "P", "date": "2026-01-02", "rounds_each": len(rounds),
            "others_share": others, "rows": targets.summarise(case, rounds, {"pp": 512, "tg": 64}), **more}


def by_test(rows):
    return {row["test"]: row for row in rows}


class Alternation(unittest.TestCase):
    def test_shares_are_of_the_time_that_drafts_span_and_what_overlaps_counts_once(self):
        def event(kind, start, end):
            return {"ph": "X", "cat": kind, "ts": start, "dur": end - start}
        events = [event("step", 0, 10), event("draft", 10, 20), event("step", 20, 60), event("disk", 25, 45), event("disk", 40, 50), event("draft", 50, 110), event("step", 105, 200),
                  {"ph": "M", "name": "thread_name"}]
        busy, both = alternation.shares(alternation.spans_of({"traceEvents": events}))
        self.assertAlmostEqual(busy["draft"], 0.7)
        self.assertAlmostEqual(busy["step"], 0.45)
        self.assertAlmostEqual(busy["disk"], 0.25)
        self.assertAlmostEqual(both, 0.15)


class Verdicts(unittest.TestCase):
    def test_a_ratio_or_a_fraction_meets_a_need_and_less_of_both_misses_it(self):
        need = targets.Need(2.3, 0.80)
        self.assertEqual(targets.verdict(need, 2.3, 0.1), "met")
        self.assertEqual(targets.verdict(need, 2.29, 0.80), "met by the fraction")
        self.assertEqual(targets.verdict(need, 2.29, 0.79), "missed")
        self.assertEqual(targets.verdict(need, 2.29, None), "missed")
        self.assertEqual(targets.verdict(targets.Need(6), 5.99, 1.0), "missed")
        self.assertEqual(targets.verdict(None, 0.1, None), "")

    def test_a_disturbed_round_moves_no_median(self):
        rows = by_test(targets.summarise(targets.find_case("default"), [a_round(), a_round(tg=(300, 10)), a_round(tg=(280, 100))], {"pp": 512, "tg": 64}))
        self.assertAlmostEqual(rows["tg"]["ratio"], 3.0)
        self.assertAlmostEqual(rows["tg"]["ratio_max"], 30.0)
        self.assertAlmostEqual(rows["tg"]["ratio_min"], 2.8)
        self.assertEqual(rows["tg"]["ours"], 300)

    def test_only_decoding_has_a_fraction_and_it_is_of_the_bare_read(self):
        rows = by_test(targets.summarise(targets.find_case("default"), [a_round()], {"pp": 512, "tg": 64}))
        self.assertAlmostEqual(rows["tg"]["fraction"], 0.6)
        self.assertIsNone(rows["pp"]["fraction"])

    def test_verifying_is_set_beside_the_peers_batch_and_needs_nothing(self):
        row = by_test(targets.summarise(targets.find_case("default"), [a_round()], {"pp": 512, "tg": 64}))["verify"]
        self.assertAlmostEqual(row["ratio"], 2.0)
        self.assertEqual(row["verdict"], "")

    def test_every_case_names_a_model_that_can_be_made_and_every_formats_targets_are_those_stated(self):
        for case in targets.CASES:
            self.assertTrue(case.model() == "default" or case.model() in models.SPEED, case.name)
            self.assertTrue({"tg", "pp"} <= set(case.needs), case.name)
        needs = {case.name: (case.needs["tg"].ratio, case.needs["pp"].ratio, case.needs["batch"].ratio) for case in targets.CASES if "batch" in case.needs}
        self.assertEqual(needs["default"], (2.3, 6, 4))
        self.assertEqual(needs["widened-q4_1"], (2, 7, 5))
        self.assertEqual(needs["widened-f16"], (1.1, 1.2, 1.5))
        self.assertEqual(needs["random-q6_k"], (1.5, 3, 3))
        self.assertEqual(needs["random-iq4_nl"], (1.5, 2.5, 3))


class Rates(unittest.TestCase):
    case = targets.find_case("default")

    def test_rows_of_both_programs_are_told_apart_by_their_tokens_and_batches_are_medians(self):
        row = lambda prompt, generate, rate, **more: {"n_prompt": prompt, "n_gen": generate, "avg_ts": rate, **more}
        rows = [row(512, 0, 10), row(8, 0, 1), row(8, 0, 5), row(8, 0, 3), row(0, 64, 7), row(8, 0, 2, test="verify8")]
        self.assertEqual(compare_llamacpp.rates(rows, self.case), {"pp": 10, "batch": 3, "tg": 7, "verify": 2})

    def test_a_rate_that_is_missing_ends_the_comparison(self):
        with self.assertRaises(SystemExit):
            compare_llamacpp.rates([{"n_prompt": 512, "n_gen": 0, "avg_ts": 1}], self.case)

    def test_this_process_is_not_other_work(self):
        others, end = busy.OtherWork(), time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        before = others.share()
        others.own -= 10  # as if this process had used ten seconds: what it used is taken off
        self.assertTrue(0 <= before <= 1, before)
        self.assertEqual(others.share(), 0)


class Reports(unittest.TestCase):
    def test_the_table_says_what_was_measured_and_judged(self):
        table = report.comparison_table(a_result([a_round()]))
        self.assertIn("| SmolLM2-135M, Q4_1 | decode of 64 | 300.0 | 100.0 | 3.00x (3.00-3.00) | 60% | 2.3x or 80% | met |", table)
        self.assertIn("batch of 8 | 1200.0 | 300.0 | 4.00x (4.00-4.00) |  | 4x | met |", table)
        self.assertNotIn("NOT FAIR", table)

    def test_a_busy_machine_is_never_judged(self):
        for busy in ({"others": 0.06}, {"shortened": True}):
            table = report.comparison_table(a_result([a_round()], **busy))
            self.assertIn("NOT FAIR FIGURES", table)
            self.assertIn("not judged", table)
            self.assertNotIn("| met |", table)

    def test_a_table_goes_between_its_markers_and_nowhere_else(self):
        text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
        self.assertEqual(report.between(text, "x", "new", "f"), "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n")
        for broken in ("nothing", "<!-- x: end -->\n<!-- x: begin -->", text + text):
            with self.assertRaises(SystemExit):
                report.between(broken, "x", "new", "f")

    def test_the_project_s_document_has_every_table_s_markers(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/benchmarks.md"), encoding="utf-8") as document:
            text = document.read()
        for name in ("llama.cpp table", "microbenchmarks", "accuracy per format", "exported table"):
            self.assertIn("new", report.between(text, name, "new", "docs/benchmarks.md"))

    def test_the_chart_is_xml_with_a_bar_a_ratio_and_a_line_a_need(self):
        rows = a_result([a_round()])["rows"] + targets.summarise(targets.find_case("default@avx2"), [a_round(tg=(50, 100))], {"pp": 512, "tg": 64})
        root = xml.etree.ElementTree.fromstring(chart.svg(rows, ""))
        busy = xml.etree.ElementTree.fromstring(chart.svg(rows, "a < b"))
        of = lambda tag, kind, root=root: [e for e in root.iter(f"{{http://www.w3.org/2000/svg}}{tag}") if e.get("class") == kind]
        self.assertEqual((len(of("rect", "met")), len(of("rect", "missed")), len(of("line", "need"))), (5, 1, 5))
        self.assertEqual((len(of("rect", "met", busy)), len(of("rect", "unjudged", busy))), (0, 6))
        self.assertEqual(of("text", "warning", busy)[0].text, "a < b")
        width = float(root.get("width"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
            self.assertLess(float(rect.get("x")) + float(rect.get("width")), width)

    def test_rows_of_the_microbenchmarks_find_their_needs(self):
        rows = [{"name": f"{name}/iterations:1/manual_time", "run_type": "iteration", **counters} for name, counters in (
            ("gemm/avx512/Q4_0/4096x4096/tokens:8/threads:2", {"fraction": 0.71}), ("gemm/avx512/Q4_1/4096x4096/tokens:32/threads:2", {"fraction": 0.5}),
            ("gemv_cold/avx512/Q4_0/576x576/threads:2", {"fraction": 0.8}), ("gemm/avx512/F16/4096x4096/tokens:8/threads:2", {"fraction": 0.9}),
            ("barrier/threads:2", {"us": 0.4}), ("scaling/Q4_1/tokens:128/threads:2", {"fraction": 0.9, "speedup": 1.8}))]
        rows.append({"name": "gemm/avx512/BF16/4096x4096/tokens:32/threads:2", "error_occurred": True})
        needs = {name: (value, need.value if need else None) for name, value, need in targets.micro_rows(rows)}
        self.assertEqual(needs["gemm/avx512/Q4_0/4096x4096/tokens:8/threads:2"], (0.71, 0.70))
        self.assertEqual(needs["gemv_cold/avx512/Q4_0/576x576/threads:2"], (0.8, 0.75))
        self.assertEqual(needs["gemm/avx512/F16/4096x4096/tokens:8/threads:2"], (0.9, None))
        self.assertEqual(needs["barrier/threads:2"], (0.4, 0.5))
        table = report.micro_table({"context": {"date": "2026-01-02T"}, "others_share": 0.01, "benchmarks": rows})
        self.assertIn("| 8 and 32 tokens: of the int8 peak | >= 70% | 50% | 71% | 1 of 2 met |", table)
        self.assertIn("| a barrier inside a region | <= 0.5 us | 0.40 us | 0.40 us | met |", table)
        self.assertIn("| | threads | 8 | 32 |", table)
        self.assertIn("not judged", report.micro_table({"context": {"date": "d"}, "others_share": 0.3, "benchmarks": rows}))

    def test_the_peers_accuracy_is_read_from_what_it_prints(self):
        text = ("Mean PPL(Q)                   :  23.245185 ±   1.280562\nMean PPL(base)                :  23.087626 ±   1.268373\n"
                "Mean    KLD:   0.003378 ±   0.000092\nSame top p: 96.307 ± 0.341 %\n")
        figures = accuracy.peer_figures(text)
        self.assertEqual((figures["kl"], figures["kl_error"], figures["perplexity"]), (0.003378, 0.000092, 23.245185))
        self.assertAlmostEqual(figures["same_top"], 0.96307)
        table = report.accuracy_table({"tokens": 1, "date": "d", "rows": [{"title": "Q9", "ours": figures, "peer": figures}]})
        self.assertIn("| Q9 | 0.00338 +- 0.00009 | 96.3% | 23.245 (+0.68%) |", table)
        with self.assertRaises(SystemExit):
            accuracy.peer_figures("nothing")


class ExportedModels(unittest.TestCase):
    # Two chunks of four tokens of a vocabulary of three: the third token of each is what predicts the answer, the fourth.
    LOGITS = ([1.0, 3.0, -30.0], [0.5, 0.25, 2.0])

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.npy, self.base = os.path.join(folder.name, "logits.npy"), os.path.join(folder.name, "base")
        description = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
        with open(self.npy, "wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(description)) + description)
            for row in self.LOGITS:
                file.write(struct.pack("<3f", *row))
        with open(self.base, "wb") as file:
            file.write(b"_logits_" + struct.pack("<3i", 4, 3, 2) + struct.pack("<8i", 0, 0, 0, 1, 0, 0, 0, 2))
            for row in self.LOGITS:
                top = max(row)
                least, total = max(min(row), top - 16), math.log(sum(math.exp(value - top) for value in row))
                scale = (top - least) / 65535
                file.write(struct.pack("<ff", scale, least - top - total))
                file.write(struct.pack("<4H", *(max(round((value - least) / scale), 0) for value in row), 0))

    def read(self, path):
        peer = export_peer.PeerLogits(path)
        self.addCleanup(peer.file.close)
        return peer

    def test_both_programs_files_give_the_same_log_probabilities(self):
        own, peer = list(export_peer.own_rows(self.npy)), list(self.read(self.base).rows())
        for ours, theirs in zip(own, peer, strict=True):
            self.assertAlmostEqual(sum(map(math.exp, ours)), 1)
            for a, b in zip(ours, theirs, strict=True):
                self.assertAlmostEqual(max(a, min(theirs)), b, places=3)
        self.assertAlmostEqual(own[0][1] - own[0][0], 2)

    def test_equal_predictions_have_no_distance_and_answers_are_the_tokens_behind(self):
        self.assertEqual(list(self.read(self.base).answers()), [1, 2])
        figures = export_peer.compare(export_peer.own_rows(self.npy), self.read(self.base).rows(), self.read(self.base).answers())
        self.assertAlmostEqual(figures["kl"][0], 0, places=5)
        self.assertEqual((figures["same_top"], figures["tokens"]), (1, 2))
        nll = [math.log(1 + math.exp(-2)), math.log(math.exp(-1.5) + math.exp(-1.75) + 1)]
        self.assertAlmostEqual(figures["perplexity"][0], math.exp(sum(nll) / 2), places=3)

    def test_other_predictions_have_the_distance_of_the_definition(self):
        figures = export_peer.compare([[math.log(0.5), math.log(0.5)]], [[math.log(0.25), math.log(0.75)]], [0])
        self.assertAlmostEqual(figures["kl"][0], 0.5 * math.log(2) + 0.5 * math.log(2 / 3))
        self.assertAlmostEqual(figures["perplexity"][0], 4)
        self.assertEqual(figures["same_top"], 0)

    def test_a_file_that_is_cut_or_another_ends_the_comparison(self):
        with open(self.base, "r+b") as file:
            file.truncate(70)
        with self.assertRaises(SystemExit):
            list(self.read(self.base).rows())
        with self.assertRaises(SystemExit):
            export_peer.PeerLogits(self.npy)

    def test_the_table_has_both_programs_with_and_without_the_adapter(self):
        figures = {"perplexity": (40.0, 2.0), "kl": (0.002, 0.0001), "same_top": 0.98, "tokens": 510}
        row = {"exact": {"value": 41.0, "error": 2.0}, "Outrigger": figures, "llama.cpp": figures}
        table = export_peer.table([("both", row), ("alone", row)], {"bytes": {"input": 1e6, "backbone": 2e6, "adapter": 3e6}}, "/somewhere/text.txt")
        self.assertIn("510 tokens of text.txt; compressed 1.0 MB, backbone 2.0 MB, adapter 3.0 MB", table)
        self.assertIn("| alone: llama.cpp | 40.000 +- 2.000 | 0.00200 +- 0.00010 | 98.0 % |", table)
        self.assertIn("| both: float32 | 41.000 +- 2.000 | | |", table)


class Models(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def tool(self, text):
        path = os.path.join(self.folder.name, "tool")
        with open(path, "w", encoding="utf-8") as out:
            out.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)
        return path

    def options(self, tool):
        # Both kinds of tool are the stand-in: called with --pure SOURCE TARGET TYPE, or SCRIPT SOURCE TARGET WORDS.
        return argparse.Namespace(folder=os.path.join(self.folder.name, "models"), model="default.gguf", quantize=tool, python=tool)

    def make(self, options):
        with contextlib.redirect_stderr(io.StringIO()):
            models.make_all(["default-q8_0"], options)

    def test_a_model_is_made_once_its_base_goes_and_a_new_recipe_makes_it_again(self):
        options = self.options(self.tool(f'echo "$@" >> {self.folder.name}/calls; echo made > "$3"'))
        self.make(options)
        self.make(options)
        with open(f"{self.folder.name}/calls", encoding="utf-8") as calls:
            self.assertEqual(len(calls.readlines()), 2)
        self.assertEqual(sorted(os.listdir(options.folder)), ["default-q8_0.gguf", "default-q8_0.recipe"])
        with open(os.path.join(options.folder, "default-q8_0.recipe"), "w", encoding="utf-8") as note:
            note.write("another")
        self.make(options)
        with open(f"{self.folder.name}/calls", encoding="utf-8") as calls:
            self.assertEqual(len(calls.readlines()), 4)

    def test_a_tool_that_fails_leaves_no_model(self):
        options = self.options(self.tool('echo half > "$3"; exit 3'))
        with self.assertRaises(SystemExit) as ended:
            self.make(options)
        self.assertIn("ended with 3", str(ended.exception))
        self.assertEqual(os.listdir(options.folder), [])


class Grid(unittest.TestCase):
    def options(self):
        return argparse.Namespace(batches=[4, 16], groups=[1, 2], lengths=[3, 5], draft="d", draft_place="auto")

    def test_it_has_a_point_without_drafts_for_each_batch_and_one_for_each_length_and_groups(self):
        options = self.options()
        self.assertEqual(len(grid.points(options)), 2 + 2 * 2 * 2)
        self.assertEqual(grid.arguments(options, (4, 1, 0)), ("--batch", 4, "--draft", "none"))
        self.assertIn("--groups", grid.arguments(options, (16, 2, 5)))

    def test_the_choice_is_beside_the_best_point_by_its_median(self):
        options = self.options()
        rates = dict.fromkeys(grid.points(options), 10.0) | {(16, 2, 5): 20.0}
        lines = grid.table(options, rates, [30.0, 18.0, 1.0])
        self.assertEqual(lines[2], "| 4 | 1 | 10.0 | 10.0 | 10.0 |")
        self.assertEqual(lines[3], "| 4 | 2 |  | 10.0 | 10.0 |")
        self.assertEqual(lines[-1], "chosen 18.0 (1.0 to 30.0, 3 runs), 90 % of the best of 10: 16 at once, 2 groups, 5 tokens, 20.0")


class SlotSchedule(unittest.TestCase):
    TARGET = slot_schedule.TARGETS[0]

    def test_drafts_that_take_no_longer_than_a_pass_are_free_where_groups_take_turns(self):
        hidden = slot_schedule.rates(self.TARGET, 50e9, 4e9, 0.8, 1)
        self.assertGreater(slot_schedule.pass_s(self.TARGET, 320, 9, 50e9, 4e9), slot_schedule.draft_s(self.TARGET))
        in_turn_s, interleaved_s = (320 * slot_schedule.NEW_TOKENS / hidden[name] for name in ("in turn", "interleaved"))
        rounds = slot_schedule.NEW_TOKENS / sum(0.8**i for i in range(9))
        self.assertAlmostEqual(in_turn_s - interleaved_s, rounds * slot_schedule.draft_s(self.TARGET), places=3)

    def test_a_pass_whose_copies_bind_takes_as_long_for_one_text_as_for_hundred(self):
        one, hundred = (slot_schedule.pass_s(self.TARGET, texts, 1, 2e12, 4e9) for texts in (1, 100))
        self.assertLess(hundred / one, 1.02)

    def test_an_order_other_than_the_published_one_is_never_fitted(self):
        self.assertEqual(slot_schedule.worst((2e12, 24e9, 0.5), 1), math.inf)
        self.assertLess(slot_schedule.worst((92e9, 8.3e9, 0.96), 0.5), math.log(1.35))


if __name__ == "__main__":
    unittest.main()
