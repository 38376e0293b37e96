#!/usr/bin/env python3
"""What the planner predicts on the machines of published measurements: published.py --outrigger TOOL [--document FILE.md]

The machines are described from data sheets: rates of the card's and the host's memory, of the link and of products, each reduced to what programs reach of it (the shares are
constants below). The models are their shapes (shapes.py). So this is the planner's opinion about a machine that it never saw, not a measurement. Needs gguf, numpy.
"""
import argparse
import dataclasses
import json
import os
import subprocess
import sys

import shapes
import tables

GB, GIB, TERA = 10**9, 2**30, 10**12


@dataclasses.dataclass(frozen=True)
class Host:
    """Rates that programs reach: three quarters of the memory's, a quarter to a third of the multipliers'."""
    name: str
    threads: int
    memory_bytes: int
    stream_bytes: float
    int8_ops: float
    float_ops: float


@dataclasses.dataclass(frozen=True)
class Card:
    """Nine tenths of the memory's rate; products of few tokens at a twentieth, of many at a fifth of the int8 units."""
    name: str
    memory_bytes: int
    stream_bytes: float
    int8_ops: float


I9_10980XE = Host("i9-10980XE", 18, 256 * GB, 70 * GB, 4.5 * TERA, 1.0 * TERA)     # 4 channels of DDR4-2933; AVX-512 VNNI
EPYC_7542 = Host("EPYC 7542", 32, 448 * GB, 150 * GB, 3.2 * TERA, 0.9 * TERA)      # 8 channels of DDR4-3200; AVX2
I7_13700K = Host("i7-13700K", 8, 128 * GB, 67 * GB, 1.2 * TERA, 0.4 * TERA)        # 2 channels of DDR5-5600, 8 large cores; AVX-VNNI
I7_32GB = dataclasses.replace(I7_13700K, name="i7-13700K with 32 GB", memory_bytes=32 * GB)
RTX_4090 = Card("RTX 4090", 24 * GIB, 0.9 * 1008 * GB, 660 * TERA)
RTX_4080S = Card("RTX 4080 SUPER", 16 * GIB, 0.9 * 736 * GB, 418 * TERA)
RTX_4070TI = Card("RTX 4070 Ti", 12 * GIB, 0.9 * 504 * GB, 321 * TERA)
PCIE3, PCIE4 = 12 * GB, 24 * GB


def profile(host, card, link_bytes):
    """A profile as `outrigger profile --json` writes them."""
    def rate(per_s):
        return {"per_s": per_s, "spread": 0, "how": "data sheet"}
    alone = {
        "machine": host.name, "threads": host.threads,
        "host_stream_bytes": rate(host.stream_bytes), "host_int8_ops": rate(host.int8_ops), "host_small_batch_ops": rate(host.int8_ops / 2),
        "host_attention_flops": rate(host.float_ops / 2), "host_repack_bytes": rate(4 * GB), "disk_bytes": rate(3.5 * GB), "host_step_overhead_us": 500,
        "host_float_ops": rate(host.float_ops), "host_float_small_batch_ops": rate(host.float_ops / 2),
        "host_bf16_ops": rate(host.float_ops), "host_bf16_small_batch_ops": rate(host.float_ops / 2),
    }
    if card is None:
        return alone
    return alone | {
        "device": card.name, "device_memory_bytes": card.memory_bytes, "h2d_bytes": rate(link_bytes), "d2h_bytes": rate(link_bytes),
        "device_stream_bytes": rate(card.stream_bytes), "device_int8_ops": rate(card.int8_ops / 5), "device_small_batch_ops": rate(card.int8_ops / 20),
        "device_attention_flops": rate(card.int8_ops / 16), "device_step_overhead_us": 500, "link_latency_us": 10, "device_threads": 128,
    }


@dataclasses.dataclass(frozen=True)
class Row:
    """A published figure and the machine it was taken on."""
    host: Host
    card: Card
    link_bytes: float
    model: str
    published: str
    batch: int = 1
    prompt: int = 500
    new: int = 128
    card_bytes: int = 0
    draft: str = ""  # a shape's name, or "self"


def budget_bytes(row):
    """Of the card: all but a GiB, which is left to driver and context."""
    return (row.card_bytes or row.card.memory_bytes) - GIB


ROWS = (
    Row(I9_10980XE, RTX_4090, PCIE3, "mixtral-8x7b-bf16", "24.7 interleaved, 12.4 without draft", batch=320, new=32),
    Row(EPYC_7542, RTX_4090, PCIE4, "mixtral-8x22b-bf16", "5.9 interleaved, 1.7 without draft", batch=64, new=32),
    Row(I7_13700K, RTX_4090, PCIE4, "llama-3.1-70b-q4_0", "8.6 with trees of an 8B model", draft="llama-3.1-8b-q4_0"),
    Row(I7_13700K, RTX_4080S, PCIE4, "llama-3.1-70b-q4_0", "8.4 with trees of an 8B model", draft="llama-3.1-8b-q4_0"),
    Row(I7_13700K, RTX_4070TI, PCIE4, "llama-3.1-70b-q4_0", "6.1 with trees of a 1B model", draft="llama-3.2-1b-bf16"),
    Row(I7_32GB, RTX_4070TI, PCIE4, "llama-3.1-70b-q4_0", "none"),
    Row(I7_13700K, RTX_4090, PCIE4, "qwen2.5-7b-f16", "24.3 with trees of its own 4-bit copies", card_bytes=8 * GIB, draft="self"),
    Row(I7_13700K, RTX_4090, PCIE4, "qwen2.5-32b-f16", "6.5 with trees of its own 4-bit copies", draft="self"),
)


def planned(options, folder, row, card, *words):
    """The plan's document with the card or without one (None)."""
    file = os.path.join(folder, "profile.json")
    with open(file, "w", encoding="utf-8") as out:
        json.dump(profile(row.host, card, row.link_bytes), out)
    workload = f"prompt={row.prompt},new={row.new},batch={row.batch}"
    budgets = ["--host-budget", str(row.host.memory_bytes * 9 // 10)] + (["--device-budget", str(budget_bytes(row))] if card else [])
    done = subprocess.run([options.outrigger, "plan", os.path.join(folder, row.model + ".gguf"), "--profile", file, "--workload", workload, "--json", *budgets, *words],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"published: {row.model}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def bound(step):
    """The lane that is busiest in a step, and its share of the step's time."""
    lane, lane_ms = max(step["lanes"].items(), key=lambda item: item[1])
    return f"{lane.removesuffix('_ms')} {min(1.0, lane_ms / step['predicted_ms']):.0%}"


def end_to_end(row, plan):
    """Tokens a second of the whole of the work, prompts included, as SpecOffload counts."""
    seconds = row.batch * plan["predicted_prefill_ms"] / 1000 + row.batch * row.new / plan["predicted_decode_tokens_per_s"]
    return row.batch * row.new / seconds


def with_draft(options, folder, row):
    """What is expected with the draft: tokens a pass and tokens/s, where a plan has one."""
    if not row.draft:
        return ""
    draft = row.draft if row.draft == "self" else os.path.join(folder, row.draft + ".gguf")
    plan = planned(options, folder, row, row.card, "--draft", draft)
    draft = plan["draft"]
    if not draft.get("predicted_decode_tokens_per_s"):
        return "no copies"
    return f"{draft['predicted_decode_tokens_per_s']:.1f}, {draft['expected_tokens_per_pass']:.1f} a pass"


def cells(options, folder, row):
    plan = planned(options, folder, row, row.card)
    alone = planned(options, folder, row, None)
    step, prompt = plan["step"]["decode"], plan["step"]["prefill"]
    work = f"{row.batch} x ({row.prompt} + {row.new})"
    return (f"| {row.host.name}, {row.card.name}, {budget_bytes(row) / GIB:.0f} GiB of it | {row.model}, {work} | {row.published} | {plan['predicted_decode_tokens_per_s']:.2f} | {bound(step)} | "
            f"{alone['predicted_decode_tokens_per_s']:.2f} | {row.prompt / plan['predicted_prefill_ms'] * 1000:.0f} | {bound(prompt)} | {end_to_end(row, plan):.2f} | {with_draft(options, folder, row)} |")


def table(options, folder):
    for name in {row.model for row in ROWS} | {row.draft for row in ROWS if row.draft not in ("", "self")}:
        shapes.write(os.path.join(folder, name + ".gguf"), name, shapes.SHAPES[name])
    lines = ["| machine | model, texts x (prompt + new tokens) | published tokens/s | our plan: decoding | bound by | without the card | prompts, tokens/s | bound by | whole work, tokens/s | with the draft |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    return "\n".join(lines + [cells(options, folder, row) for row in ROWS])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    tables.make(parser.parse_args(), table, "published machines")


if __name__ == "__main__":
    main()
