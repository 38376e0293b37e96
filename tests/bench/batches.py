#!/usr/bin/env python3
"""A batch of texts by turns: plain, with a draft model whose texts go together, in two groups, and as the tool chooses.

batches.py --outrigger TOOL --model FILE.gguf --draft FILE.gguf --prompts FILE.jsonl [--batch 16] [--tokens 64] [--rounds 3] [--draft-place device] [--limit MIB] [--more="--device ..."]
           [--points 2x8 1x4 ...]

With --points, each of so many groups and drafted tokens, such a point of grid.py's beside what is chosen, and nothing plain.

Greedy, the first prompts of the file, each so many tokens. With --limit, as root, each run is in a memory cgroup of so many MiB with the page cache dropped before, and the budget is 24 MiB less. The
tokens must be equal in every run. Prints a table: tokens a second of all texts, from the first step to the last text, medians; the ratio's over the rounds, and its range. Standard library only.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile

import limits

WAYS = {"plain": ("--draft", "none"), "together": ("--groups", "1"), "two groups": ("--groups", "2"), "auto": ("--groups", "auto")}


def run(options, prompts, *choice):
    """One run with the options of `choice`: how many at once, and how they draft."""
    command = [options.outrigger, "run", options.model, "--prompts", prompts, "--ctx", str(options.context), "--temp", "0", "--ignore-eos", "--json", "--progress", "none",
               *map(str, choice), *shlex.split(options.more)]
    if not options.limit:
        return json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout)
    limits.drop_caches()
    with limits.Group(options.limit) as group:
        return json.loads(group.run([*command, "--host-budget", f"{options.limit - limits.OUTSIDE_MIB}MiB"]))


def write_prompts(options, path, texts):
    with open(options.prompts, encoding="utf-8") as source, open(path, "w", encoding="utf-8") as out:
        for line, unused in zip(source, range(texts)):
            out.write(json.dumps({"prompt": json.loads(line)["prompt"][:options.letters], "n": options.tokens}) + "\n")


def need_equal_texts(runs):
    if len({tuple(tuple(text["tokens"]) for text in one["results"]) for one in runs}) != 1:
        sys.exit("the texts are not the same in all runs")


def by_turns(options, prompts, ways):
    """The runs of each way, which has options of its own, or of a draft too."""
    found = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, runs in found.items():
            draft = () if way == "plain" else ("--draft", options.draft, "--draft-place", options.draft_place)
            runs.append(run(options, prompts, "--batch", options.batch, *draft, *ways[way]))
    need_equal_texts(one for runs in found.values() for one in runs)
    return found


def points_table(options, prompts):
    ways = {"chosen": ()}
    for point in options.points:
        groups, tokens = point.split("x")
        ways[f"{groups} groups, {tokens} tokens"] = ("--groups", groups, "--draft-tokens", tokens)
    print("| | tokens/s | steps | beside the other group's drafts | tokens a pass |\n|---|---|---|---|---|")
    for way, runs in by_turns(options, prompts, ways).items():
        rates = [one["timings"]["total_tokens_per_s"] for one in runs]
        batch, spoken = runs[-1]["batch"], runs[-1]["speculation"]
        print(f"| {way} | {statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) | {batch['steps']} | {batch['alternated_steps']} | {spoken['tokens_per_pass']:.2f} |", flush=True)


def table(options, prompts):
    found = by_turns(options, prompts, {way: choice if way == "plain" else (*choice, "--draft-tokens", options.draft_tokens) for way, choice in WAYS.items()})
    print("| | tokens/s | of plain | steps | beside the other group's drafts | accepted of drafted |\n|---|---|---|---|---|---|")
    rates = {way: [one["timings"]["total_tokens_per_s"] for one in runs] for way, runs in found.items()}
    for way, runs in found.items():
        ratios = [fast / plain for fast, plain in zip(rates[way], rates["plain"])]
        batch, spoken = runs[-1]["batch"], runs[-1]["speculation"]
        print(f"| {way} | {statistics.median(rates[way]):.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {batch['steps']} | {batch['alternated_steps']} | "
              f"{spoken['accepted']} of {spoken['drafted']} |", flush=True)


def new_parser(about):
    """The options that any comparison of batches has."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    for name in ("outrigger", "model", "draft", "prompts"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--texts", type=int)
    parser.add_argument("--letters", type=int, default=300, help="of each prompt, at most")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--draft-place", default="auto", help="with a device in --more: host or device")
    parser.add_argument("--limit", type=int, help="MiB, of the whole process")
    parser.add_argument("--more", default="", help="options for every run")
    return parser


def main():
    parser = new_parser(__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--draft-tokens", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", nargs="+", metavar="GROUPSxTOKENS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        prompts = os.path.join(scratch, "prompts.jsonl")
        write_prompts(options, prompts, options.texts or options.batch)
        (points_table if options.points else table)(options, prompts)


if __name__ == "__main__":
    main()
