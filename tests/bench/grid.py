#!/usr/bin/env python3
"""What the tool chooses for a batch with a draft model, beside a grid of fixed choices.

grid.py --outrigger TOOL --model FILE.gguf --draft FILE.gguf --prompts FILE.jsonl [--texts 16] [--tokens 64] [--batches 4 8 16] [--groups 1 2] [--lengths 1 2 ...] [--limit MIB]
        [--draft-place device] [--more="--device ..."] [--kept FILE.json]

A point is how many texts go at once, in how many groups, and how long drafts are; 0 tokens: without the draft. Each is run once, and before every tenth of them, and at the end, what is chosen with
nothing but --draft said, with the largest batch: its rate is the median. The best of many runs that were each made once is above what that point gives on average, so the share that the choice comes
to is, if anything, too low. Texts are greedy and must be equal in all runs. --limit as for batches.py. With --kept a grid that was stopped goes on. Prints a table of tokens a second. Standard library only.
"""
import itertools
import json
import os
import statistics
import sys
import tempfile

import batches

BETWEEN = 10  # points between two runs of the choice: the machine changes in minutes


def points(options):
    plain = [(batch, 1, 0) for batch in options.batches]
    return plain + [point for point in itertools.product(options.batches, options.groups, options.lengths) if point[1] <= point[0]]


def arguments(options, point):
    batch, groups, length = point
    draft = ("--draft-tokens", length, "--groups", groups, "--draft", options.draft, "--draft-place", options.draft_place) if length else ("--draft", "none")
    return ("--batch", batch, *draft)


def measure(options, prompts, kept):
    """Rates by point, and those of the choice; what `kept` has already is not run again."""
    chosen = ("--batch", max(options.batches), "--draft", options.draft, "--draft-place", options.draft_place)
    planned = points(options)
    todo = []
    for index, point in enumerate(planned):
        if index % BETWEEN == 0:
            todo.append((f"chosen {index}", chosen))
        todo.append((" ".join(map(str, point)), arguments(options, point)))
    todo.append((f"chosen {len(planned)}", chosen))
    for name, choice in todo:
        if name not in kept:
            one = batches.run(options, prompts, *choice)
            kept[name] = {"rate": one["timings"]["total_tokens_per_s"], "results": [{"tokens": text["tokens"]} for text in one["results"]]}
            print(f"{name}: {kept[name]['rate']:.1f}", file=sys.stderr, flush=True)
            if options.kept:
                with open(options.kept, "w", encoding="utf-8") as file:
                    json.dump(kept, file)
    batches.need_equal_texts(kept.values())
    rates = {point: kept[" ".join(map(str, point))]["rate"] for point in planned}
    return rates, [found["rate"] for name, found in kept.items() if name.startswith("chosen")]


def table(options, rates, choices):
    """The grid as lines of Markdown, and what the choice comes to of its best point."""
    lines = ["| at once | groups | " + " | ".join(map(str, (0, *options.lengths))) + " |", "|---" * (3 + len(options.lengths)) + "|"]
    for batch, groups in itertools.product(options.batches, options.groups):
        cells = [rates.get((batch, groups, length)) for length in (0, *options.lengths)]
        lines.append(f"| {batch} | {groups} | " + " | ".join("" if cell is None else f"{cell:.1f}" for cell in cells) + " |")
    best = max(rates, key=rates.get)
    chosen = statistics.median(choices)
    lines += ["", f"chosen {chosen:.1f} ({min(choices):.1f} to {max(choices):.1f}, {len(choices)} runs), {100 * chosen / rates[best]:.0f} % of the best of {len(rates)}: {best[0]} at once, "
              + (f"{best[1]} group{'s' if best[1] > 1 else ''}, {best[2]} tokens" if best[2] else "without a draft") + f", {rates[best]:.1f}"]
    return lines


def main():
    parser = batches.new_parser(__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6, 8, 10, 12, 16])
    parser.add_argument("--kept", help="a file of rates, which is written after each run and read first")
    options = parser.parse_args()
    kept = {}
    if options.kept and os.path.exists(options.kept):
        with open(options.kept, encoding="utf-8") as file:
            kept = json.load(file)
    with tempfile.TemporaryDirectory() as scratch:
        prompts = os.path.join(scratch, "prompts.jsonl")
        batches.write_prompts(options, prompts, options.texts or max(options.batches))
        print("\n".join(table(options, *measure(options, prompts, kept))))


if __name__ == "__main__":
    main()
