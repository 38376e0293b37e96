#!/usr/bin/env python3
"""Runs `outrigger bench` and `llama-bench` in turns over one or many model files and compares them. Standard library only.

Each round runs every case once, both programs one after the other, and swaps who goes first: the machine's drift falls on both. A bare read
of memory is timed between them. What is compared and what it needs stands in targets.py.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import busy
import models
import report
import targets


def run_json(command, environment=None):
    """The JSON document a benchmark prints on stdout."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"compare: `{' '.join(command)}` ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


# A batch is short: both programs measure it several times in a process.
BATCH_REPEATS = 3


def rates(rows, case):
    """tokens/s by the names of targets.TESTS; llama-bench writes the numbers of tokens, not a test's name."""
    found = {}
    for row in rows:
        if row["n_gen"]:
            test = "tg"
        elif row.get("test", "").startswith("verify"):
            test = "verify"
        else:
            test = "batch" if row["n_prompt"] == targets.BATCH else "pp"
        found.setdefault(test, []).append(float(row["avg_ts"]))
    missing = {"tg", "pp", "batch"} - set(found)
    if missing:
        sys.exit(f"compare: {case.name}: no rate for {', '.join(sorted(missing))} among {[(r['n_prompt'], r['n_gen']) for r in rows]}")
    return {test: statistics.median(values) for test, values in found.items()}


def lengths(case, options):
    return min(case.prompt, options.longest_prompt), min(case.generate, options.longest_generation)


def run_ours(case, options):
    prompt, generate = lengths(case, options)
    batches = ",".join([str(targets.BATCH)] * BATCH_REPEATS)
    command = [options.outrigger, "bench", options.files[case.name], "-p", f"{prompt},{batches}", "-n", str(generate), "--verify", batches,
               "--repeat", "1", "--threads", str(options.threads), "--json"]
    rows = run_json(command, {"OUTRIGGER_SIMD": "avx2"} if case.level == "avx2" else None)
    decode = next(row for row in rows if row["n_gen"])
    return rates(rows, case), float(decode["weight_bytes_per_s"])


def run_peer(case, options):
    prompt, generate = lengths(case, options)
    batches = ",".join([str(targets.BATCH)] * BATCH_REPEATS)
    tool = options.llama_bench_avx2 if case.level == "avx2" else options.llama_bench
    rows = run_json([tool, "-m", options.files[case.name], "-p", f"{prompt},{batches}", "-n", str(generate), "-r", "1", "-t",
                     str(options.threads), "-o", "json"])
    return rates(rows, case), rows[0]


def stream_rate(options):
    """Bytes a second of a bare read of memory by as many threads."""
    rows = run_json([options.microbench, f"--benchmark_filter=^stream_read/threads:{options.threads}/", "--benchmark_format=json"])["benchmarks"]
    if not rows:
        sys.exit(f"compare: {options.microbench} reads memory with 1 or all usable cores, not with {options.threads} threads")
    return float(rows[0]["rate"])


def measure(cases, options):
    """Rounds by case name, as targets.summarise takes them; and a row of the peer for its build."""
    rounds, build = {case.name: [] for case in cases}, {}
    for number in range(options.rounds):
        for case in cases:
            result = {"stream": stream_rate(options)}
            for who in (("ours", "peer") if number % 2 == 0 else ("peer", "ours")):
                if who == "ours":
                    result["ours"], result["weights"] = run_ours(case, options)
                else:
                    result["peer"], build = run_peer(case, options)
            rounds[case.name].append(result)
            line = ", ".join(f"{targets.TESTS[test]} {result['ours'][test]:.1f} / {result['peer'][test]:.1f}" for test in ("tg", "pp", "batch"))
            print(f"round {number + 1} of {options.rounds}, {case.name}: {line}; decode at {result['weights'] / result['stream']:.0%} of "
                  f"{result['stream'] / 1e9:.1f} GB/s", file=sys.stderr, flush=True)
    return rounds, build


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return re.search(r"^model name\s*:\s*(.*)$", info.read(), re.MULTILINE).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True, metavar="TOOL")
    parser.add_argument("--llama-bench", required=True, metavar="TOOL")
    parser.add_argument("--llama-bench-avx2", metavar="TOOL", help="a build for AVX2, for the cases that are named so")
    parser.add_argument("--microbench", required=True, metavar="TOOL", help="this project's, for the rate of reading memory")
    parser.add_argument("--model", required=True, metavar="FILE", help="the default model")
    parser.add_argument("--models", default="", metavar="FOLDER", help="where models.py made the others")
    parser.add_argument("--cases", default="default", help=f"names, or all: {', '.join(case.name for case in targets.CASES)}")
    parser.add_argument("--built", default="llama.cpp", help="what the peer is, for the table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--longest-prompt", type=int, default=512, metavar="N", help="for trying things out")
    parser.add_argument("--longest-generation", type=int, default=64, metavar="N", help="for trying things out")
    parser.add_argument("--json", metavar="FILE", help="every round and the summary, for report.py")
    parser.add_argument("--check", action="store_true", help="end with 1 when a target is missed, or the machine was too busy to tell")
    options = parser.parse_args()
    names = [case.name for case in targets.CASES] if options.cases == "all" else options.cases.split(",")
    options.chosen = [targets.find_case(name) for name in names]
    if None in options.chosen:
        parser.error(f"--cases: no case {names[options.chosen.index(None)]}; there are {', '.join(case.name for case in targets.CASES)}")
    if any(case.level == "avx2" for case in options.chosen) and not options.llama_bench_avx2:
        parser.error("a case at AVX2 needs --llama-bench-avx2")
    options.files = {case.name: models.path(options.models, case.model(), options.model) for case in options.chosen}
    for case in options.chosen:
        if not os.path.exists(options.files[case.name]):
            parser.error(f"{case.name}: {options.files[case.name]} is not there; tests/bench/models.py makes it")
    return options


def main():
    options = parse()
    print(f"peer: {options.built}", file=sys.stderr)
    others = busy.OtherWork()
    rounds, build = measure(options.chosen, options)
    rows = []
    for case in options.chosen:
        prompt, generate = lengths(case, options)
        rows += targets.summarise(case, rounds[case.name], {"pp": prompt, "tg": generate})
    result = {"peer": options.built, "peer_build": f"{build.get('build_number', '')} ({build.get('build_commit', '')})", "threads": options.threads,
              "processor": processor(), "date": time.strftime("%Y-%m-%d"), "rounds_each": options.rounds,
              "others_share": others.share(), "shortened": options.longest_prompt < 512 or options.longest_generation < 64, "rows": rows,
              "rounds": rounds}
    print(report.comparison_table(result))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=1)
    missed = [f"{row['case']} {targets.TESTS[row['test']]} {row['ratio']:.2f}x" for row in rows if row["verdict"] == "missed"]
    reasons = report.reasons_against(result)
    if reasons:
        print(f"compare: not judged: {'; '.join(reasons)}", file=sys.stderr)
    elif missed:
        print(f"compare: below what is needed: {', '.join(missed)}", file=sys.stderr)
    if options.check and (reasons or missed):
        sys.exit(1)


if __name__ == "__main__":
    main()
