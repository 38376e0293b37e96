#!/usr/bin/env python3
"""What n-grams as a draft are worth: speculation.py --outrigger TOOL --model FILE.gguf [--budget 64MiB] [--rounds 5]

Greedy, plain and with --draft auto by turns, on a text that repeats its prompt and on prose, under the budget and with everything in
memory. The tokens must be equal in every run. Prints a table: medians, the ratio's over the rounds, and its range. Standard library only.
"""
import argparse
import json
import statistics
import subprocess
import sys

LIST = "".join(f"- item {i}: the red apple and the green pear\n" for i in range(1, 9))
PROMPTS = {
    "repeats its prompt": f"Here is a list.\n{LIST}Here is the same list once more.\n",
    "prose": "The history of the lighthouse began when sailors needed",
}
NEW_TOKENS = 96


def run(options, prompt, draft, budget):
    command = [options.outrigger, "run", options.model, "-p", prompt, "-n", str(NEW_TOKENS), "--temp", "0", "--ignore-eos", "--json",
               "--progress", "none", "--draft", draft]
    if budget:
        command += ["--host-budget", budget]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def row(options, text, budget):
    rates = {"none": [], "auto": []}
    tokens, per_pass = set(), []
    for _ in range(options.rounds):
        for draft, found in rates.items():
            result = run(options, PROMPTS[text], draft, budget)
            found.append(result["timings"]["decode_tokens_per_s"])
            tokens.add(tuple(result["tokens"]))
            if draft == "auto":
                per_pass.append(result["speculation"]["tokens_per_pass"])
    if len(tokens) != 1:
        sys.exit(f"{text}, {budget or 'no limit'}: {len(tokens)} different texts, want one")
    ratios = [fast / plain for fast, plain in zip(rates["auto"], rates["none"])]
    return (f"| {text} | {budget or 'no limit'} | {statistics.median(rates['none']):.0f} | {statistics.median(rates['auto']):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(per_pass):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--budget", default="64MiB")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| text | host budget | plain, tokens/s | `--draft auto` | ratio | tokens a pass |\n|---|---|---|---|---|---|")
    for text in PROMPTS:
        for budget in (options.budget, None):
            print(row(options, text, budget), flush=True)


if __name__ == "__main__":
    main()
