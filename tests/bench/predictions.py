#!/usr/bin/env python3
"""Compares what plans predict with what then happens: bytes read, and the time of a token and of prompts of 8 and 64.

predictions.py --outrigger TOOL --models FOLDER --default FILE.gguf [--repeat 9] [--document FILE.md]

The models are those of models.py, and the default one. The machine's lanes are measured again before and after each run, since a shared machine changes its
rates within seconds. As root the page cache is dropped before. Standard library only.
"""
import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
import time

import tables


@dataclasses.dataclass(frozen=True)
class Case:
    what: str
    path: str
    budgets_mib: tuple


def tool_json(options, *arguments):
    done = subprocess.run([options.outrigger, *map(str, arguments), "--json", "--progress", "none"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def drop_caches():
    if os.geteuid() != 0:
        return
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def planned(options, case, budget_mib, folder):
    """A plan of this moment's rates, as a file, and what it says."""
    profile = os.path.join(folder, "machine.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump(tool_json(options, "profile", "--again", "--disk", case.path), file)
    plan = tool_json(options, "plan", case.path, "--draft", "none", "--host-budget", f"{budget_mib}MiB", "--workload", "prompt=64,new=16", "--profile", profile)
    path = os.path.join(folder, "plan.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(plan, file)
    return path, plan


def bytes_of_a_token(options, case, plan):
    """Bytes of weights that a decoded token reads: what eight tokens more read more. Reading ahead is the same in both."""
    read = [tool_json(options, "run", case.path, "--plan", plan, "-p", "The capital", "-n", new, "--temp", "0", "--ignore-eos")["streamed"]["disk_bytes"]
            for new in (2, 10)]
    return (read[1] - read[0]) // 8


def measure(options, case, budget_mib):
    """By tokens: predicted and measured ms of each run; and whether a token's bytes were those predicted.

    `bench --predict` measures the lanes before and after every run, and predicts it from both."""
    with tempfile.TemporaryDirectory() as folder:
        plan, says = planned(options, case, budget_mib, folder)
        exact = bytes_of_a_token(options, case, plan) == says["step"]["decode"]["streamed_bytes"]
        drop_caches()
        rows = tool_json(options, "bench", case.path, "--plan", plan, "-p", "8,64", "-n", "8", "--repeat", options.repeat, "--predict")
    times = {}
    for row in rows:
        tokens, steps = (1, row["n_gen"]) if row["n_gen"] else (row["n_prompt"], 1)
        times[tokens] = [(predicted / steps / 1e6, measured / steps / 1e6) for predicted, measured in zip(row["predicted_ns"], row["samples_ns"])]
    return times, exact, says["step"]["decode"]["streamed_bytes"] / 1e6


def table(options, cases):
    lines, errors = [], []
    for case in cases:
        for budget_mib in case.budgets_mib:
            times, exact, read_mb = measure(options, case, budget_mib)
            cells = []
            for tokens in (1, 8, 64):
                predicted, measured = (statistics.median(pair[i] for pair in times[tokens]) for i in (0, 1))
                errors.append(statistics.median(pair[0] / pair[1] - 1 for pair in times[tokens]))
                cells.append(f"{predicted:.1f} / {measured:.1f} ({100 * errors[-1]:+.0f} %)")
            lines.append(f"| {case.what} | {budget_mib} MiB | {read_mb:.1f} MB, {'exact' if exact else 'NOT as predicted'} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    sizes = sorted(abs(error) for error in errors)
    summary = f"Over {len(sizes)} points the prediction is off by {100 * statistics.median(sizes):.0f} % in the median and {100 * sizes[-1]:.0f} % at most."
    head = [f"{time.strftime('%Y-%m-%d')}, medians of {options.repeat} runs, {os.cpu_count()} threads; predicted / measured ms.", "",
            "| model | budget | read for a token | 1 token | prompt of 8 | prompt of 64 |", "|---|---|---|---|---|---|"]
    return "\n".join(head + lines + ["", summary])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "models", "default"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--repeat", type=int, default=9, help="runs of each test")
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    cases = (Case("135M, Q4_1", options.default, (40, 64, 84)), Case("widened 16x, Q4_1", os.path.join(options.models, "widened-q4_1.gguf"), (150, 300, 426)),
             Case("widened 8x, F16", os.path.join(options.models, "widened-f16.gguf"), (300, 500, 676)))
    text = table(options, cases)
    print(text)
    if options.document:
        tables.replace(options.document, "predictions table", text)


if __name__ == "__main__":
    main()
