#!/usr/bin/env python3
"""Drafts by turns with none: drafts.py --outrigger TOOL --model FILE.gguf --drafts self auto FILE.gguf ... [--limit MIB] [--tokens 48] [--rounds 3] [--humaneval FILE.jsonl]
          [--draft-tokens auto 4 8 16]

Each draft once for each of --draft-tokens, `auto` unless given. Greedy, on prose, on a text that repeats its prompt and, where there is a file, on a function to complete. With --limit, as root, each run is in a memory cgroup of so many MiB with the page cache dropped
before, and the budget is 24 MiB less. The tokens must be equal in every run. Prints a table: medians; the ratio's, over the rounds, and its range, of eight rounds or more its quartiles. Standard
library only.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

import draft_peer
import limits
from speculation import PROMPTS


PLAIN = ("none", "auto")


def run(options, prompt, draft, draft_tokens):
    command = [options.outrigger, "run", options.model, "-p", prompt, "-n", str(options.tokens), "--ctx", "512", "--temp", "0", "--ignore-eos", "--json", "--progress", "none", "--draft", draft,
               *(() if draft == "none" else ("--draft-tokens", draft_tokens))]
    if not options.limit:
        return json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout)
    limits.drop_caches()
    with limits.Group(options.limit) as group:
        return json.loads(group.run([*command, "--host-budget", f"{options.limit - limits.OUTSIDE_MIB}MiB"]))


def rows(options, name, prompt):
    ways = [(draft, tokens) for draft in options.drafts for tokens in options.draft_tokens]
    found = {way: [] for way in (PLAIN, *ways)}
    for turn in range(options.rounds):
        for way in (reversed(found) if turn % 2 else found):  # so that nobody always goes first
            found[way].append(run(options, prompt, *way))
    texts = {tuple(one["tokens"]) for runs in found.values() for one in runs}
    if len(texts) != 1:
        sys.exit(f"drafts: {name}: {len(texts)} different texts, want one")
    rates = {way: [one["timings"]["decode_tokens_per_s"] for one in runs] for way, runs in found.items()}
    for way in ways:
        draft, tokens = way
        ratios = sorted(fast / plain for fast, plain in zip(rates[way], rates[PLAIN]))
        low, high = (ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]) if len(ratios) >= 8 else (ratios[0], ratios[-1])
        spoken = [one["speculation"] for one in found[way]]
        yield (f"| {name} | {os.path.basename(draft)}{'' if tokens == 'auto' else ', ' + tokens} ({os.path.basename(spoken[-1]['draft'])}{', off in the end' if spoken[-1]['auto_off'] else ''}) | "
               f"{statistics.median(rates[PLAIN]):.2f} | {statistics.median(rates[way]):.2f} | {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) | "
               f"{statistics.median(one['tokens_per_pass'] for one in spoken):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--drafts", nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="MiB, of the whole process")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--humaneval")
    parser.add_argument("--draft-tokens", nargs="+", default=["auto"])
    options = parser.parse_args()
    texts = {"prose": draft_peer.PROSE, "repeats its prompt": PROMPTS["repeats its prompt"]}
    if options.humaneval:
        with open(options.humaneval, encoding="utf-8") as file:
            texts["code"] = json.loads(next(file))["prompt"]
    print("| text | `--draft` (who drafted) | plain, tokens/s | with it | ratio | tokens a pass |\n|---|---|---|---|---|---|")
    for name, prompt in texts.items():
        for row in rows(options, name, prompt):
            print(row, flush=True)


if __name__ == "__main__":
    main()
