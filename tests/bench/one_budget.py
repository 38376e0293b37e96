#!/usr/bin/env python3
"""At one device budget: the full model, which streams, its bare backbone, and the backbone with what corrects it; tokens/s and KL of each.

one_budget.py --outrigger TOOL --full FILE.gguf --bare FILE.gguf --compensated FILE.gguf --device emulated:... --budget SIZE --host SIZE --text TEXT
              [--tokens 16] [--rounds 5] [--chunks 6] [--document FILE.md]

`--bare` is `--full` in few bits without corrections, `--compensated` with; `--budget` holds either's backbone and neither the full model nor the corrections, `--host` the rest of the full
model. Corrections are computed on the device, streaming to it, or on the host, in turn with the device or meanwhile. Rows run in turn, round after round; medians, and ratios to the bare
backbone of the same round; KL by `eval --reference` on the host. One thread each for host and device. Standard library only.
"""
import argparse
import dataclasses
import json
import os
import statistics
import time

import beside
import tables


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    model: str  # an option
    place: str = "device"  # where branches are computed


ROWS = (Row("the full model, streaming", "full"), Row("bare backbone", "bare"), Row("compensated, the branches streaming to the device", "compensated"),
        Row("compensated, on the host, the device waiting", "compensated", "host-in-turn"), Row("compensated, on the host meanwhile", "compensated", "host"))


def planned(options, folder, profile, row):
    path = os.path.join(folder, f"{row.model}-{row.place}.json")
    plan = beside.tool_json(options, "plan", getattr(options, row.model), "--draft", "none", "--profile", profile, "--host-budget", options.host, "--device-budget", options.budget,
                            "--branch-on", row.place, "--workload", f"prompt=16,new={options.tokens}")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(plan, file)
    return path, plan


def distance(options, model):
    if model == "full":
        return "0"
    kl = beside.tool_json(options, "eval", getattr(options, model), "--reference", options.full, "--text", options.text, "--chunks", options.chunks)["kl"]
    return f"{kl['mean']:.3f} +- {kl['error']:.3f}"


def measure(options, folder):
    profile = os.path.join(folder, "profile.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump(beside.tool_json(options, "profile", "--device", options.device, "--threads", 1), file)
    plans = {row: planned(options, folder, profile, row) for row in ROWS}
    rates = {row: [] for row in ROWS}
    for _ in range(options.rounds):
        for row in ROWS:
            result = beside.tool_json(options, "bench", getattr(options, row.model), "--device", options.device, "--plan", plans[row][0], "-p", 0, "-n", options.tokens, "--repeat", 3,
                                      "--branch-on", row.place)
            rates[row].append(result[0]["avg_ts"])
    bare = rates[ROWS[1]]
    distances = {model: distance(options, model) for model in ("full", "bare", "compensated")}
    lines = [f"{time.strftime('%Y-%m-%d')}, {os.path.basename(options.full)}, {options.device}; device {options.budget}, host {options.host}; {options.rounds} rounds, KL over {options.chunks} pieces.", "",
             "| | tokens/s | of the bare backbone | KL | planned on the device | predicted |", "|---|---|---|---|---|---|"]
    for row, values in rates.items():
        plan = plans[row][1]
        ratio = statistics.median(value / other for value, other in zip(values, bare))
        lines.append(f"| {row.name} | {statistics.median(values):.1f} | {ratio:.2f} | {distances[row.model]} | {plan['tiers']['device']['planned_bytes'] / 2**20:.0f} MiB |"
                     f" {plan['predicted_decode_tokens_per_s']:.1f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "full", "bare", "compensated", "device", "budget", "host", "text"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    tables.make(options, measure, "one budget table")


if __name__ == "__main__":
    main()
