#!/usr/bin/env python3
"""What branches cost beside a device: decoding without them, with them on the device, streamed, and on the host meanwhile or in turn.

beside.py --outrigger TOOL --model COMPRESSED.gguf --device emulated:... --small SIZE --large SIZE --host SIZE [--tokens 16] [--rounds 5] [--document FILE.md]

`--small` is a device budget that holds the backbone and not its branches, `--large` one that holds both, `--host` the host's, which holds the branches and not the model. Rows run in
turn, round after round; medians, and ratios to the bare backbone of the same round. One thread each for host and device. Standard library only.
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import tables

# name: device budget, where branches are computed, share of them
ROWS = {
    "without branches": ("large", "device", "none"),
    "branches in the device's memory": ("large", "device", "all"),
    "the same memory as without, branches on the device": ("small", "device", "all"),
    "the same memory, on the host, the device waiting": ("small", "host-in-turn", "all"),
    "the same memory, on the host meanwhile": ("small", "host", "all"),
}


def tool_json(options, *arguments):
    done = subprocess.run([options.outrigger, *map(str, arguments), "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def make_plan(options, folder, profile, size, place):
    path = os.path.join(folder, f"{size}-{place}.json")
    plan = tool_json(options, "plan", options.model, "--draft", "none", "--profile", profile, "--host-budget", options.host, "--device-budget", getattr(options, size), "--branch-on", place,
                     "--workload", f"prompt=16,new={options.tokens}")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(plan, file)
    return path, plan


def measure(options, folder):
    profile = os.path.join(folder, "profile.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump(tool_json(options, "profile", "--device", options.device, "--threads", 1), file)
    plans = {name: make_plan(options, folder, profile, size, place) for name, (size, place, _) in ROWS.items()}
    rates = {name: [] for name in ROWS}
    for _ in range(options.rounds):
        for name, (_, place, share) in ROWS.items():
            result = tool_json(options, "bench", options.model, "--device", options.device, "--plan", plans[name][0], "-p", 0, "-n", options.tokens, "--repeat", 3, "--branch", share,
                               "--branch-on", place)
            rates[name].append(result[0]["avg_ts"])
    bare = rates["without branches"]
    lines = [f"{time.strftime('%Y-%m-%d')}, {os.path.basename(options.model)}, {options.device}; device {options.small} or {options.large}, host {options.host}; {options.rounds} rounds.", "",
             "| | tokens/s | of without | planned on the device | predicted |", "|---|---|---|---|---|"]
    for name, values in rates.items():
        plan = plans[name][1]
        ratio = statistics.median(value / other for value, other in zip(values, bare))
        lines.append(f"| {name} | {statistics.median(values):.1f} | {ratio:.2f} | {plan['tiers']['device']['planned_bytes'] / 2**20:.0f} MiB | {plan['predicted_decode_tokens_per_s']:.1f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "model", "device", "small", "large", "host"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    tables.make(options, measure, "beside table")


if __name__ == "__main__":
    main()
