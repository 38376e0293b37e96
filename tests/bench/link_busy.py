#!/usr/bin/env python3
"""How busy the link is while a step streams weights to the emulated device, from the trace; and what the step takes beside its longest lane.

link_busy.py --outrigger TOOL --model FILE.gguf [--repeat 3] [--document FILE.md]

The emulated device computes no faster than this machine, so no honest plan sends it weights that the host could multiply. The plan is therefore made for a
device of this machine's rates times a hundred, as a graphics card's are, and run on the emulated one behind slower links: then the link is what binds.
Standard library only.
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import tempfile
import time

import tables

DEVICE_TIMES = 100  # what the planner is told the device does, of what it does
PLANNED_LINK_BYTES_PER_S = 2e10
LINKS = {"200MB/s": 200e6, "500MB/s": 500e6, "1GB/s": 1e9}
LATENCY_S = 10e-6  # of the emulated link, each copy
PROMPT = "The quick brown fox jumps over the lazy dog, and then it looks back. " * 8  # five steps of 32, and a few tokens


def tool_json(options, *arguments):
    done = subprocess.run([options.outrigger, *map(str, arguments), "--json", "--progress", "none"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def plan_for_a_fast_device(options, folder):
    profile = tool_json(options, "profile", "--device", "emulated:memory=64MiB,link=1GB/s")
    for name, rate in profile.items():
        if name.startswith("device_") and isinstance(rate, dict):
            rate["per_s"] *= DEVICE_TIMES
        elif name in ("h2d_bytes", "d2h_bytes"):
            rate["per_s"] = PLANNED_LINK_BYTES_PER_S
    paths = [os.path.join(folder, name) for name in ("machine.json", "plan.json")]
    with open(paths[0], "w", encoding="utf-8") as file:
        json.dump(profile, file)
    plan = tool_json(options, "plan", options.model, "--draft", "none", "--device-budget", "64MiB", "--profile", paths[0], "--workload", "prompt=32,new=160")
    if plan["device_stream"]["slots"] == 0:
        raise SystemExit("the plan streams nothing to the device; it needs a larger model")
    with open(paths[1], "w", encoding="utf-8") as file:
        json.dump(plan, file)
    return paths[1]


def covered(intervals):
    """How much of a line the intervals cover together."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def steps_of(trace, link_bytes_per_s):
    """Of each step its tokens, its time, and the time each lane was busy in it, in us.

    The link's own is what it was given over what it carries a second, which it keeps to exactly: a copy's span in the trace ends when the lane's thread has
    seen the copy's end, and begins when it came to wait for it."""
    lanes = {(event["pid"], event["tid"]): event["args"]["name"].split()[0] for event in trace if event["ph"] == "M" and event["name"] == "thread_name"}
    spans = [event for event in trace if event["ph"] == "X"]
    for step in (event for event in spans if event.get("cat") == "step"):
        start, stop = step["ts"], step["ts"] + step["dur"]
        busy, copied_us = collections.defaultdict(list), 0.0
        for event in spans:
            if event.get("cat") == "step" or event["args"]["step"] != step["args"]["step"]:
                continue
            if event["name"].startswith("copy unit"):
                copied_us += (event["args"]["bytes"] / link_bytes_per_s + LATENCY_S) * 1e6
            else:
                busy[lanes[event["pid"], event["tid"]]].append((max(start, event["ts"]), min(stop, event["ts"] + event["dur"])))
        yield step["args"]["tokens"], step["dur"], {**{lane: covered(intervals) for lane, intervals in busy.items()}, "h2d": copied_us}


def table(options):
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        plan, trace = plan_for_a_fast_device(options, folder), os.path.join(folder, "trace.json")
        for link in LINKS:
            runs = collections.defaultdict(list)
            for _ in range(options.repeat):
                tool_json(options, "run", options.model, "--plan", plan, "--device", f"emulated:memory=96MiB,link={link}", "-p", PROMPT, "-n", "2",
                          "--temp", "0", "--ignore-eos", "--trace", trace)
                with open(trace, encoding="utf-8") as file:
                    steps = list(steps_of(json.load(file)["traceEvents"], LINKS[link]))
                    for tokens, took, busy in steps[1:]:  # the first also touches every page of a new process for the first time
                        runs[tokens].append((took / 1e3, busy.get("h2d", 0) / took, busy.get("device", 0) / took, max(busy.values()) / took))
            for tokens, rows in runs.items():
                took, h2d, device, longest = (statistics.median(column) for column in zip(*rows))
                if h2d > 0.5:  # steps of fewer tokens than the plan streams for are computed on the host
                    lines.append(f"| {link} | {tokens} | {took:.0f} | {100 * h2d:.1f} % | {100 * device:.1f} % | {1 / longest:.3f} |")
                    print(lines[-1], flush=True)
    head = [f"{time.strftime('%Y-%m-%d')}, medians of {options.repeat} runs of {os.path.basename(options.model)}.", "",
            "| link | tokens of the step | ms | link busy | device busy | step / longest lane |", "|---|---|---|---|---|---|"]
    return "\n".join(head + lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True)
    parser.add_argument("--model", required=True, help="widened-q4_1.gguf of models.py")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each link")
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    text = table(options)
    print(text)
    if options.document:
        tables.replace(options.document, "link table", text)


if __name__ == "__main__":
    main()
