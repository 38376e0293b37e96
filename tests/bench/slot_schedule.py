#!/usr/bin/env python3
"""SpecOffload's schedule with the parameters that its authors ran it with, as a calculation: what its published ablation can be explained by.

slot_schedule.py [--document FILE.md]

Two groups of texts take turns: while one is verified, the draft proposes for the other. A layer's attention and its projections are computed on the host while the layer's
experts, all of them, are copied to the card; then the card computes them. Read from its code: half of the parameters are pinned, every round the draft reads the whole context
anew, and a prompt's sub-batches each stream the model once. Not published are the rate of the host's products, that of copies which are not pinned, how often a token of
the draft is accepted, and how many texts there were without a draft. The first three are fitted, on a grid, to the six published figures in their order, for all texts and for one group's half of
them: agreement says that the schedule can explain the figures, not that these were the rates.
Source: arXiv 2505.10259, section 4 and the ablation; its code of 2026-02. Standard library only.
"""
import argparse
import itertools
import math

import tables

NEW_TOKENS = 32       # of each text
PROMPT_TOKENS = 500   # of a text of SummEval, about
CARD_FLOPS = 60e12    # of bf16 products of some thousand tokens on the card, of the 165 that its data sheet says
KEYS_BYTES = 2 * 8 * 128 * 2  # keys and values of a layer and token: 8 heads of 128 in bf16, in both targets
DRAFT_FLOPS, DRAFT_STEP_S = 2 * 7.2e9, 0.04  # of Mistral 7B: a step reads 14.5 GB in 16 ms, and launches some thousand kernels from Python


class Target:
    """A mixture and the machine it was run on, with what was chosen for SummEval."""

    def __init__(self, name, layers, width, ffn, pinned_bytes_per_s, host_bytes_per_s, batch, prompt_batch, draft_batch, draft_tokens, published):
        self.name, self.layers, self.batch, self.prompt_batch, self.draft_batch, self.draft_tokens = name, layers, batch, prompt_batch, draft_batch, draft_tokens
        self.pinned_bytes_per_s, self.host_bytes_per_s, self.published = pinned_bytes_per_s, host_bytes_per_s, published
        self.expert_weights = 3 * width * ffn
        self.attention_weights = 2 * width * width + 2 * width * 1024


TARGETS = (
    Target("Mixtral 8x7B, PCIe 3.0", 32, 4096, 14336, 12e9, 70e9, 320, 80, 8, 8, {"no speculation": 12.369, "in turn": 17.048, "interleaved": 24.743}),
    Target("Mixtral 8x22B, PCIe 4.0", 56, 6144, 16384, 24e9, 150e9, 64, 16, 8, 8, {"no speculation": 1.698, "in turn": 4.146, "interleaved": 5.911}),
)


def stream_s(target, unpinned_bytes_per_s):
    """A layer's eight experts over the link, half of them from memory that is not pinned."""
    half = 8 * target.expert_weights * 2 / 2
    return half / target.pinned_bytes_per_s + half / unpinned_bytes_per_s


def pass_s(target, batch, tokens_each, host_flops, unpinned_bytes_per_s):
    """One pass over the target that takes so many tokens of each text of a group."""
    tokens = batch * tokens_each
    host = tokens * 2 * target.attention_weights / host_flops + batch * PROMPT_TOKENS * KEYS_BYTES / target.host_bytes_per_s
    card = tokens * 2 * 2 * target.expert_weights / CARD_FLOPS
    return target.layers * (max(host, stream_s(target, unpinned_bytes_per_s)) + card)


def prompt_s(target, batch, unpinned_bytes_per_s):
    """The prompts of a group: each sub-batch streams all layers, and computes nothing meanwhile."""
    weights = target.layers * (2 * target.expert_weights + target.attention_weights)
    of_one = target.layers * stream_s(target, unpinned_bytes_per_s) + target.prompt_batch * PROMPT_TOKENS * 2 * weights / CARD_FLOPS
    return batch / target.prompt_batch * of_one


def draft_s(target):
    """A round of drafts for a group: every sub-batch reads its context anew, then goes token by token."""
    of_one = target.draft_batch * PROMPT_TOKENS * DRAFT_FLOPS / CARD_FLOPS + (target.draft_tokens - 1) * DRAFT_STEP_S
    return math.ceil(target.batch / target.draft_batch) * of_one


def plain_rate(target, batch, host_flops, unpinned_bytes_per_s):
    """Tokens a second without speculation, prompts included."""
    return batch * NEW_TOKENS / (prompt_s(target, batch, unpinned_bytes_per_s) + NEW_TOKENS * pass_s(target, batch, 1, host_flops, unpinned_bytes_per_s))


def rates(target, host_flops, unpinned_bytes_per_s, accepted, plain_share):
    """Tokens a second by schedule, in the order in which they were published to rise; without speculation for a share of the texts."""
    rounds = NEW_TOKENS / sum(accepted**i for i in range(target.draft_tokens + 1))
    verify, draft = pass_s(target, target.batch, target.draft_tokens + 1, host_flops, unpinned_bytes_per_s), draft_s(target)
    prompts, tokens = prompt_s(target, target.batch, unpinned_bytes_per_s), target.batch * NEW_TOKENS
    return {"no speculation": plain_rate(target, int(target.batch * plain_share), host_flops, unpinned_bytes_per_s),
            "in turn": tokens / (prompts + rounds * (verify + draft)), "interleaved": tokens / (prompts + rounds * max(verify, draft))}


def worst(parameters, plain_share):
    """How far the worst figure is off, as a logarithm; infinite where the order is another than the published one."""
    off = 0
    for target in TARGETS:
        calculated = rates(target, *parameters, plain_share)
        if not calculated["no speculation"] < calculated["in turn"] < calculated["interleaved"]:
            return math.inf
        off = max(off, *(abs(math.log(rate / target.published[name])) for name, rate in calculated.items()))
    return off


def fitted(plain_share):
    """(host FLOP/s, unpinned bytes/s, acceptance) whose worst figure is off least."""
    steps = [[low * (high / low) ** (i / 24) for i in range(25)] for low, high in ((50e9, 2e12), (1e9, 24e9))]
    return min(itertools.product(*steps, [0.5 + 0.02 * i for i in range(24)]), key=lambda parameters: worst(parameters, plain_share))


def table():
    lines = ["| calculated / published tokens/s | texts without a draft | no speculation | draft and verify in turn | interleaved | a group's pass, its drafts | fitted: host products, copies not pinned, accepted |",
             "|---|---|---|---|---|---|---|"]
    for plain_share in (1, 0.5):
        host_flops, unpinned, accepted = fitted(plain_share)
        for target in TARGETS:
            cells = [f"{rate:.1f} / {target.published[name]:.1f} ({rate / target.published[name] - 1:+.0%})" for name, rate in rates(target, host_flops, unpinned, accepted, plain_share).items()]
            verify = pass_s(target, target.batch, target.draft_tokens + 1, host_flops, unpinned)
            lines.append(f"| {target.name}, groups of {target.batch} | {int(target.batch * plain_share)} | {' | '.join(cells)} | {verify:.0f} s, {draft_s(target):.0f} s | "
                         f"{host_flops / 1e9:.0f} GFLOP/s, {unpinned / 1e9:.1f} GB/s, {accepted:.0%} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    text = table()
    print(text)
    if options.document:
        tables.replace(options.document, "slot table", text)


if __name__ == "__main__":
    main()
