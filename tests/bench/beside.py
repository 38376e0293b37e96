#!/usr/bin/env python3
"""What branches cost beside a device: decoding without them, with them on the device, streamed, and on the host meanwhile (handed over by words or by copies) or in turn, all or as many as a slowdown allows.

beside.py --outrigger TOOL --model COMPRESSED.gguf --device emulated:... --small SIZE --large SIZE --host SIZE [--tokens 16] [--prompt 16] [--slowdown 5%] [--rounds 5]
          [--reference FILE.gguf --text TEXT [--chunks 6]] [--trace FILE.json] [--document FILE.md]

`--small` is a device budget that holds the backbone and not its branches, `--large` one that holds both, `--host` the host's, which holds the branches and not the model. Rows run in
turn, round after round; medians, and ratios to the bare backbone of the same round. With a reference also what each row's plan is from it, in chunks of as many tokens as `--prompt` has
room for. `--trace` is of some tokens of the last row. One thread each for host and device. Standard library only.
"""
import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import time

import tables


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    size: str    # of the device's budget, an option
    place: str   # where branches are computed
    share: str = "all"
    is_slowed: bool = False  # by no more than --slowdown
    by_copies: bool = False  # host and device hand over as where they do not see the same memory


ROWS = (Row("without branches", "large", "device", "none"), Row("branches in the device's memory", "large", "device"),
        Row("the same memory as without, branches on the device", "small", "device"), Row("the same memory, on the host, the device waiting", "small", "host-in-turn"),
        Row("the same memory, on the host meanwhile, handed over by copies", "small", "host", by_copies=True), Row("the same memory, on the host meanwhile", "small", "host"), Row("the same, as many as {} more time allow", "small", "host", is_slowed=True))


def tool_json(options, *arguments):
    done = subprocess.run([options.outrigger, *map(str, arguments), "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def without_handoffs(profile, folder):
    """The same machine, of whose device nothing is known but that it copies."""
    with open(profile, encoding="utf-8") as file:
        measured = json.load(file)
    measured.pop("handoff_us", None)
    path = os.path.join(folder, "profile-by-copies.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(measured, file)
    return path


def make_plan(options, folder, profile, row):
    path = os.path.join(folder, f"{row.size}-{row.place}-{row.is_slowed}-{row.by_copies}.json")
    if row.by_copies:
        profile = without_handoffs(profile, folder)
    slowdown = ("--max-slowdown", options.slowdown) if row.is_slowed else ()
    plan = tool_json(options, "plan", options.model, "--draft", "none", "--profile", profile, "--host-budget", options.host, "--device-budget", getattr(options, row.size), "--branch-on",
                     row.place, "--workload", f"prompt={options.prompt},new={options.tokens}", *slowdown)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(plan, file)
    return path, plan


def on_device(options, row, plan):
    """Options of a command that runs the row; the plan says what a slowdown leaves of the branches."""
    share = () if row.is_slowed else ("--branch", row.share)
    return ("--device", options.device, "--plan", plan, "--branch-on", row.place, *share)


def distance(options, row, plan):
    if not options.reference:
        return None
    return tool_json(options, "eval", options.model, "--reference", options.reference, "--text", options.text, "--ctx", options.prompt, "--chunks", options.chunks,
                     *on_device(options, row, plan))["kl"]


def measure(options, folder):
    profile = os.path.join(folder, "profile.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump(tool_json(options, "profile", "--device", options.device, "--threads", 1), file)
    plans = {row: make_plan(options, folder, profile, row) for row in ROWS}
    rates = {row: [] for row in ROWS}
    for _ in range(options.rounds):
        for row in ROWS:
            result = tool_json(options, "bench", options.model, "-p", 0, "-n", options.tokens, "--repeat", 3, *on_device(options, row, plans[row][0]))
            rates[row].append(result[0]["avg_ts"])
    if options.trace:
        tool_json(options, "bench", options.model, "-p", 0, "-n", options.tokens, "--repeat", 1, "--trace", options.trace, *on_device(options, ROWS[-1], plans[ROWS[-1]][0]))
    bare, distances = rates[ROWS[0]], {row: distance(options, row, plans[row][0]) for row in ROWS}
    of_reference = " KL | recovered |" if options.reference else ""
    lines = [f"{time.strftime('%Y-%m-%d')}, {os.path.basename(options.model)}, {options.device}; device {options.small} or {options.large}, host {options.host}; {options.rounds} rounds.", "",
             f"| | tokens/s | of without | planned on the device | predicted |{of_reference}", "|---|---|---|---|---|" + "---|---|" * bool(options.reference)]
    for row, values in rates.items():
        plan = plans[row][1]
        ratio = statistics.median(value / other for value, other in zip(values, bare))
        cells = [row.name.format(options.slowdown), f"{statistics.median(values):.1f}", f"{ratio:.2f}", f"{plan['tiers']['device']['planned_bytes'] / 2**20:.0f} MiB",
                 f"{plan['predicted_decode_tokens_per_s']:.1f}"]
        if kl := distances[row]:
            cells += [f"{kl['mean']:.3f} +- {kl['error']:.3f}", "" if row is ROWS[0] else tables.recovered(kl["chunks"], distances[ROWS[0]]["chunks"])]
        lines.append("| " + " | ".join(cells) + " |")
    left_out = sorted({tensor["name"].split(".")[2] for tensor in plans[ROWS[-1]][1]["tensors"] if not tensor.get("corrected", True) and tensor["name"].endswith(".weight")})
    return "\n".join(lines + ["", f"Last row: left out are the branches of {', '.join(left_out) or 'none'}; of the others {100 * plans[ROWS[-1]][1]['branch_share']:.0f} % are used."])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "model", "device", "small", "large", "host"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--slowdown", default="5%")
    parser.add_argument("--reference", help="the model that it was made from; then with --text")
    parser.add_argument("--text")
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--trace", help="where the last row's lanes are written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    tables.make(options, measure, "beside table")


if __name__ == "__main__":
    main()
