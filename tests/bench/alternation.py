#!/usr/bin/env python3
"""Who works when, in a batch with a draft model: passes and drafts beside each other or by turns, from the traces of two runs.

alternation.py --outrigger TOOL --model FILE.gguf --draft FILE.gguf --prompts FILE.jsonl [--batch 16] [--tokens 64] [--draft-tokens 4] [--draft-place device] [--limit MIB] [--more="--device ..."]

Of the time from the first draft to the last: how much of it passes take, drafts, and both at once, and how busy the lanes are that bring weights. Other options as for batches.py. Standard
library only.
"""
import json
import os
import tempfile

import batches
import link_busy


def spans_of(trace):
    """The trace's spans by what they are: "step", "draft", and those of each lane by its name."""
    found = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            found.setdefault(event["cat"], []).append((event["ts"], event["ts"] + event["dur"]))
    return found


def shares(spans):
    """Of the time between the first draft's begin and the last one's end, what each kind covers."""
    begin, end = min(start for start, _ in spans["draft"]), max(stop for _, stop in spans["draft"])
    inside = {kind: [(max(start, begin), min(stop, end)) for start, stop in all_of if stop > begin and start < end] for kind, all_of in spans.items()}
    busy = {kind: link_busy.covered(some) / (end - begin) for kind, some in inside.items()}
    either = link_busy.covered(inside["step"] + inside["draft"]) / (end - begin)
    return busy, busy["step"] + busy["draft"] - either


def row(options, prompts, groups, folder):
    path = os.path.join(folder, "trace.json")
    ran = batches.run(options, prompts, "--batch", options.batch, "--draft", options.draft, "--draft-place", options.draft_place, "--draft-tokens", options.draft_tokens,
                      "--groups", groups, "--trace", path)
    with open(path, encoding="utf-8") as file:
        busy, both = shares(spans_of(json.load(file)))
    bringing = max(busy.get(lane, 0) for lane in ("disk", "h2d"))
    return ran, (f"| {groups} | {ran['timings']['total_tokens_per_s']:.1f} | {100 * busy['step']:.0f} % | {100 * busy['draft']:.0f} % | {100 * both:.0f} % | {100 * bringing:.0f} % | "
                 f"{ran['batch']['steps']} |")


def main():
    parser = batches.new_parser(__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--draft-tokens", default="4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prompts = os.path.join(folder, "prompts.jsonl")
        batches.write_prompts(options, prompts, options.texts or options.batch)
        rows = [row(options, prompts, groups, folder) for groups in (1, 2)]
    batches.need_equal_texts([ran for ran, _ in rows])
    print("| groups | tokens/s | passes | drafts | both at once | disk or link | steps |\n|---|---|---|---|---|---|---|")
    print("\n".join(text for _, text in rows))


if __name__ == "__main__":
    main()
