#!/usr/bin/env python3
"""Decodes models that are larger than the memory of the process, in a memory cgroup, beside what the disk gives and beside llama.cpp.

limits.py --outrigger TOOL --models FOLDER [--llama-bench PROGRAM] [--rounds 3] [--document FILE.md]

As root, on a machine whose memory cgroups may be made (v1 or v2). The files are those of models.py. Before each run the page cache is dropped. The
library's budget is the limit less 24 MiB: the program itself, the vocabulary and the header. Standard library only.
"""
import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

import tables

V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
OUTSIDE_MIB = 24

@dataclasses.dataclass(frozen=True)
class Row:
    model: str
    what: str
    limit_mib: int
    tokens: int
    times: float  # of llama.cpp that is wanted


ROWS = (Row("widened-q4_1", "widened 16x, Q4_1", 450, 24, 2.2), Row("experts-q4_1", "32 experts, top 2, Q4_1", 600, 64, 20),
        Row("widened-f16", "widened 8x, F16", 700, 16, 1.8))


class Group:
    """A memory cgroup of its own, gone when it is left."""

    def __init__(self, limit_mib):
        is_v1 = os.path.isdir(V1)
        self.path = os.path.join(V1 if is_v1 else V2, f"outrigger-limits-{os.getpid()}")
        self.limit, self.peak = ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if is_v1 else ("memory.max", "memory.peak")
        self.limit_bytes = limit_mib << 20

    def __enter__(self):
        os.makedirs(self.path, exist_ok=True)
        self.write(self.limit, self.limit_bytes)
        return self

    def __exit__(self, *unused):
        os.rmdir(self.path)

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def run(self, command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=lambda: self.write("cgroup.procs", os.getpid()))
        if done.returncode != 0:
            sys.exit(f"limits: `{' '.join(command)}` ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
        return done.stdout

    def peak_bytes(self):
        with open(os.path.join(self.path, self.peak), encoding="ascii") as file:
            return int(file.read())


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def ours(options, path, row):
    command = [options.outrigger, "run", path, "--host-budget", f"{row.limit_mib - OUTSIDE_MIB}MiB", "-p", "The capital of France is", "-n", str(row.tokens),
               "--ignore-eos", "--temp", "0", "--draft", "none", "--json", "--progress", "none"]
    drop_caches()
    # The plan is to know the machine as it is now, and so is the reader of the table.
    profile = json.loads(subprocess.run([options.outrigger, "profile", "--again", "--disk", path, "--json"], stdin=subprocess.DEVNULL, capture_output=True,
                                        text=True, check=True).stdout)
    with Group(row.limit_mib) as group:
        document = json.loads(group.run(command))
        peak = group.peak_bytes()
    # The prompt is one step, or a few; of the rest a step is a token.
    bytes_per_token = document["streamed"]["disk_bytes"] / len(document["tokens"])
    return {"rate": document["timings"]["decode_tokens_per_s"], "direct": profile["disk_bytes"]["per_s"], "busy": profile["disk_bytes_busy"]["per_s"],
            "bytes": bytes_per_token, "peak": peak, "tokens": document["tokens"],
            "predicted": document["plan"]["predicted_decode_tokens_per_s"], "experts": document["experts"]}


def prefill(options, path, row):
    """A prompt of 512 tokens: its time under the limit, without one, and what reading the weights once takes the disk as it is now."""
    def bench(*more):
        command = [options.outrigger, "bench", path, "-p", "512", "-n", "0", "--repeat", "3", "--json", "--progress", "none", *more]
        return command, lambda text: 512 / statistics.median(json.loads(text)[0]["samples_ts"])
    drop_caches()
    profile = json.loads(subprocess.run([options.outrigger, "profile", "--again", "--disk", path, "--json"], stdin=subprocess.DEVNULL, capture_output=True,
                                        text=True, check=True).stdout)
    budget = ("--host-budget", f"{row.limit_mib - OUTSIDE_MIB}MiB")
    command, seconds = bench(*budget)
    with Group(row.limit_mib) as group:
        limited = seconds(group.run(command))
    command, seconds = bench()
    free = seconds(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout)
    plan = json.loads(subprocess.run([options.outrigger, "plan", path, *budget, "--draft", "none", "--workload", "prompt=512,new=1", "--json"], stdin=subprocess.DEVNULL,
                                     capture_output=True, text=True, check=True).stdout)
    step = plan["step"]["prefill"]
    return {"limited": limited, "free": free, "reading": (step["streamed_bytes"] + step["expert_bytes"]) / profile["disk_bytes_busy"]["per_s"],
            "step_tokens": plan["step_tokens"]}


def theirs(options, path, row):
    drop_caches()
    with Group(row.limit_mib) as group:
        (result,) = json.loads(group.run([options.llama_bench, "-m", path, "-p", "0", "-n", "8", "-t", str(os.cpu_count()), "-r", "1", "-o", "json"]))
    return result["avg_ts"]


def same_text(options, path, row, tokens):
    """Whether a run without limits says the same."""
    command = [options.outrigger, "run", path, "-p", "The capital of France is", "-n", str(row.tokens), "--ignore-eos", "--temp", "0", "--json", "--progress", "none"]
    return json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout)["tokens"] == tokens


def measure(options, row):
    path = os.path.join(options.models, f"{row.model}.gguf")
    runs, peer, prompts = [], [], []
    for _ in range(options.rounds):
        runs.append(ours(options, path, row))
        prompts.append(prefill(options, path, row))
        if options.llama_bench:
            peer.append(theirs(options, path, row))
    median = {name: statistics.median(run[name] for run in runs) for name in ("rate", "direct", "busy", "bytes", "peak", "predicted")}
    bound = statistics.median(run["rate"] * run["bytes"] / run["busy"] for run in runs)
    prompt = {name: statistics.median(one[name] for one in prompts) for name in ("limited", "free", "reading")}
    over = statistics.median(one["limited"] / max(one["reading"], one["free"]) for one in prompts)
    experts = runs[-1]["experts"]
    hits = f"{100 * experts['hits'] / experts['uses']:.0f} %" if experts["uses"] else ""
    beside = f"{statistics.median(peer):.2f}, {median['rate'] / statistics.median(peer):.1f}x" if peer else ""
    return (f"| {row.what}, {os.path.getsize(path) / 1e6:.0f} MB, {row.limit_mib} MiB | {median['rate']:.2f} | {median['predicted']:.2f} | {beside} | "
            f"{row.times}x | {median['bytes'] / 1e6:.0f} MB | {median['direct'] / 1e9:.2f}, {median['busy'] / 1e9:.2f} GB/s | {100 * bound:.0f} % | {hits} | "
            f"{median['peak'] / 2**20:.0f} MiB | {prompt['limited']:.2f} s in steps of {prompts[-1]['step_tokens']}; {prompt['free']:.2f}, {prompt['reading']:.2f} s; {over:.2f} | {'yes' if same_text(options, path, row, runs[-1]['tokens']) else 'NO'} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "models"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--llama-bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    lines = [f"{time.strftime('%Y-%m-%d')}, medians of {options.rounds} rounds, {os.cpu_count()} threads.", "",
             "| file, limit for the whole process | tokens/s | predicted | llama.cpp, ratio | wanted | read for a token | direct reads: alone, beside computing | of what the latter allow | "
             "experts in memory | the cgroup's peak | 512 tokens of a prompt; computing them alone, reading alone; of the longer | same text as without limits |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    lines += [measure(options, row) for row in ROWS]
    text = "\n".join(lines)
    print(text)
    if options.document:
        tables.replace(options.document, "limits table", text)


if __name__ == "__main__":
    main()
