#!/usr/bin/env python3
"""Runs `outrigger bench` and `llama-bench` in turns and compares them: medians, ratios, spread. Standard library only.

Each round runs both programs once, one after the other, and swaps who goes first: the machine's drift then falls on both. A ratio is the
median of the rounds' ratios, so a disturbed round moves it little.
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

# Above this load before the start other work takes part of the cores, which hits the two programs' waiting threads very differently.
BUSY_LOAD = 0.5
BEGIN, END = "<!-- llama.cpp table: begin -->", "<!-- llama.cpp table: end -->"


def run_json(command):
    """The JSON document a benchmark prints on stdout."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"compare: `{' '.join(command)}` ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def test_name(row):
    """"pp512" or "tg64"; llama-bench writes the numbers, not the name."""
    return f"pp{row['n_prompt']}" if row["n_prompt"] and not row["n_gen"] else f"tg{row['n_gen']}"


def rates(rows):
    return {test_name(row): float(row["avg_ts"]) for row in rows}


def commands(options):
    work = ["-p", str(options.prompt), "-n", str(options.generate)]
    ours = [options.outrigger, "bench", options.model, *work, "--repeat", "1", "--threads", str(options.threads), "--json", *options.our_args.split()]
    peer = [options.llama_bench, "-m", options.model, *work, "-r", "1", "-t", str(options.threads), "-o", "json", *options.peer_args.split()]
    return ours, peer


def measure(options):
    """One dict a round: test -> (ours, peer), in tokens/s; and a row of the peer for its build."""
    ours, peer = commands(options)
    rounds, build = [], {}
    for number in range(options.rounds):
        results = {}
        for who in (("ours", "peer") if number % 2 == 0 else ("peer", "ours")):
            rows = run_json(ours if who == "ours" else peer)
            if who == "peer":
                build = rows[0]
            results[who] = rates(rows)
        tests = list(results["peer"])
        missing = [test for test in tests if test not in results["ours"]]
        if missing or not tests:
            sys.exit(f"compare: outrigger bench measured {list(results['ours'])}, llama-bench {tests}")
        rounds.append({test: (results["ours"][test], results["peer"][test]) for test in tests})
        line = ", ".join(f"{test} {a:.1f} / {b:.1f} = {a / b:.2f}x" for test, (a, b) in rounds[-1].items())
        print(f"round {number + 1} of {options.rounds}: {line}", file=sys.stderr, flush=True)
    return rounds, build


def summarise(rounds):
    rows = []
    for test in rounds[0]:
        ours, peer = [r[test][0] for r in rounds], [r[test][1] for r in rounds]
        ratios = [a / b for a, b in zip(ours, peer)]
        rows.append({"test": test, "outrigger_ts": statistics.median(ours), "llama_cpp_ts": statistics.median(peer),
                     "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)})
    return rows


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return re.search(r"^model name\s*:\s*(.*)$", info.read(), re.MULTILINE).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def table(options, rows, build, load):
    commit = build.get("build_commit", "unknown")
    own = f", which calls itself build {build.get('build_number')} ({commit})" if commit != "unknown" else ""
    busy = f" NOT A FAIR FIGURE: the machine was busy, load {load:.1f} before the start." if load > BUSY_LOAD else ""
    lines = [f"{os.path.basename(options.model)}, {options.threads} threads, {processor()}, {time.strftime('%Y-%m-%d')}; "
             f"{options.rounds} rounds in turns, medians, ratio with its range.{busy}",
             f"Peer: {options.built}{own}.", "",
             "| test | Outrigger, tokens/s | llama.cpp, tokens/s | ratio |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['test']} | {row['outrigger_ts']:.1f} | {row['llama_cpp_ts']:.1f} | "
                     f"{row['ratio']:.2f}x ({row['ratio_min']:.2f}-{row['ratio_max']:.2f}) |")
    return "\n".join(lines)


def rewrite(path, text):
    """Puts the table between the markers of a document."""
    with open(path, encoding="utf-8") as document:
        old = document.read()
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        sys.exit(f"compare: {path} needs one line {BEGIN} and, below it, one line {END}")
    head, tail = old.split(BEGIN)[0], old.split(END)[1]
    with open(path + ".new", "w", encoding="utf-8") as document:
        document.write(f"{head}{BEGIN}\n{text}\n{END}{tail}")
    os.replace(path + ".new", path)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True, metavar="TOOL")
    parser.add_argument("--llama-bench", required=True, metavar="TOOL")
    parser.add_argument("--model", required=True, metavar="FILE")
    parser.add_argument("--built", default="llama.cpp", help="what the peer is, for the table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prefill test")
    parser.add_argument("--generate", type=int, default=64, help="tokens of the decode test")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--our-args", default="", help="more words for outrigger bench")
    parser.add_argument("--peer-args", default="", help="more words for llama-bench")
    parser.add_argument("--json", metavar="FILE", help="every round and the summary")
    parser.add_argument("--document", metavar="FILE", help="rewrite the table between the markers of this file, e.g. docs/benchmarks.md")
    parser.add_argument("--need-prefill", type=float, default=0, metavar="X", help="end with 1 when the prefill ratio is below")
    parser.add_argument("--need-decode", type=float, default=0, metavar="X", help="end with 1 when the decode ratio is below")
    return parser.parse_args()


def main():
    options = parse()
    print(f"peer: {options.built}", file=sys.stderr)
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        print(f"compare: the machine is busy (load {load:.1f}): these ratios will not be fair; wait until it is idle", file=sys.stderr)
    rounds, build = measure(options)
    rows = summarise(rounds)
    text = table(options, rows, build, load)
    print(text)
    if options.document:
        rewrite(options.document, text)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump({"peer": options.built, "threads": options.threads, "load_before": load, "rows": rows, "rounds": rounds}, out, indent=1)
    needs = {f"pp{options.prompt}": options.need_prefill, f"tg{options.generate}": options.need_decode}
    short = [f"{row['test']} {row['ratio']:.2f}x of {needs[row['test']]}x" for row in rows if row["ratio"] < needs.get(row["test"], 0)]
    if short:
        sys.exit(f"compare: below what is needed: {', '.join(short)}")


if __name__ == "__main__":
    main()
