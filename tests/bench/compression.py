#!/usr/bin/env python3
"""What compressing loses and what branches restore: KL on text like the calibration's and on other text, beside bytes.

compression.py --outrigger TOOL --model FILE.gguf --calibration TEXT... --like TEXT --other TEXT [--rows NAME...] [--folder FOLDER] [--chunks 14] [--document FILE.md]

Each row is one run of `compress` and two of `eval`, some three to eight minutes on two cores for a model of 135 million weights. Files stay in the folder, and a row whose file is
there is not compressed again. What is recovered is 1 - KL / KL of the row of the same bits without branches; errors are over chunks, of what is recovered over the same chunks of both.
Standard library only.
"""
import argparse
import dataclasses
import json
import os
import subprocess
import tempfile
import time

import tables


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    what: str
    options: tuple
    bare: str = ""  # the row that it is compared with

    def __post_init__(self):
        assert self.name.isidentifier()


def branched(bits, form, size):
    """The rows of one number of bits and one size: bits a weight that are stored or read."""
    flag, bare, label = f"--bits={bits}", f"bits{bits}", size.replace(".", "")
    budget = ("--branch-budget", f"{size}bpw")
    if form == "residual":
        reads = ("--branch-reads", f"{size}bpw", "--form", "sparse")
        return [Row(f"read{bits}_{label}", f"residual, {size} read, as measured", (flag, *reads), bare),
                Row(f"read_uniform{bits}_{label}", f"residual, {size} read, the same share for all", (flag, *reads, "--allocate", "uniform"), bare)]
    if form == "chosen":
        return [Row(f"stored{bits}_{label}", f"what it chooses for {size} stored", (flag, *budget), bare),
                Row(f"reading{bits}_{label}", f"what it chooses for {size} read", (flag, "--branch-reads", f"{size}bpw"), bare)]
    budget = (*budget, "--form", "low-rank")
    return [Row(f"svd{bits}_{label}", f"low rank, {size}, plain singular vectors", (flag, *budget, "--method", "hcinfer", "--allocate", "uniform"), bare),
            Row(f"uniform{bits}_{label}", f"low rank, {size}, the same rank for all", (flag, *budget, "--allocate", "uniform", "--polish", "off"), bare),
            Row(f"blocks{bits}_{label}", f"low rank, {size}, the same rank for all, polished block by block", (flag, *budget, "--allocate", "uniform", "--polish-scope", "block"), bare),
            Row(f"scored{bits}_{label}", f"low rank, {size}, by HCInfer's score", (flag, *budget, "--allocate", "hcinfer", "--polish", "off"), bare),
            Row(f"rank{bits}_{label}", f"low rank, {size}, as measured", (flag, *budget, "--polish", "off"), bare),
            Row(f"polish{bits}_{label}", f"low rank, {size}, as measured, polished", (flag, *budget, "--polish-target", "branches"), bare),
            Row(f"together{bits}_{label}", f"low rank, {size}, as measured, polished with scales and norms", (flag, *budget, "--polish-target", "both"), bare)]


def all_rows():
    rows = [Row(f"bits{bits}", f"{bits} bits", (f"--bits={bits}", "--polish=off")) for bits in (2, 3, 4)]
    rows += [Row(f"table{bits}", f"{bits} bits, levels of a codebook", (f"--bits={bits}", "--levels=codebook", "--polish=off"), f"bits{bits}") for bits in (2, 3, 4)]
    for bits in (2, 3, 4):
        rows += [Row(f"{name}{bits}", f"{bits} bits, scales and norms polished{how}", (f"--bits={bits}", "--polish-target=backbone", f"--polish-scope={scope}"), f"bits{bits}")
                 for name, how, scope in (("scales", "", "end-to-end"), ("block_scales", " block by block", "block"))]
    for bits in (2, 3):
        rows += [row for form in ("low rank", "residual", "chosen") for row in branched(bits, form, "0.42")]
    # With 8.5 instead of 4.5 bits to an element the rank of 32 that all have in 0.42 takes 0.78.
    rows.append(Row("eight2_042", "low rank, the same rank for all as with 0.42, factors of 8 bits",
                    ("--bits=2", "--branch-budget", "0.79bpw", "--form", "low-rank", "--allocate", "uniform", "--polish", "off", "--factor-bits", "8"), "bits2"))
    for size in ("0.83", "1.66"):
        rows += [row for bits in (2, 3) for form in ("low rank", "residual", "chosen") for row in branched(bits, form, size)]
    rows.append(Row("both2", "what it chooses for 1.66 stored, 0.42 read", ("--bits=2", "--branch-budget", "1.66bpw", "--branch-reads", "0.42bpw"), "bits2"))
    return rows + [Row("mixed29", "mixed bits, 2.92 stored", ("--bits=mixed:2.92", "--polish=off"), "bits2")]


def tool_json(options, *arguments):
    done = subprocess.run([options.outrigger, *map(str, arguments), "--json", "--progress", "none"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def run_row(options, folder, row):
    path, kept = os.path.join(folder, row.name + ".gguf"), os.path.join(folder, row.name + ".json")
    if os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            return json.load(file)
    calibration = [part for text in options.calibration for part in ("--calibration", text)]
    result = tool_json(options, "compress", options.model, "-o", path, *row.options, *calibration, "--quality-chunks", 0)
    for name, text in (("like", options.like), ("other", options.other)):
        result[name] = tool_json(options, "eval", path, "--reference", options.model, "--text", text, "--chunks", options.chunks)
    os.unlink(path)
    with open(kept, "w", encoding="utf-8") as file:
        json.dump(result, file)
    return result


def table(options, folder):
    lines = [f"{time.strftime('%Y-%m-%d')}, {os.path.basename(options.model)}; each {options.chunks} chunks.", "",
             "| | bits stored | branch bits stored | read a token | KL, like text | recovered | KL, other text | recovered |", "|---|---|---|---|---|---|---|---|"]
    results = {}
    for row in all_rows():
        if options.rows and row.name not in options.rows and not any(other.bare == row.name and other.name in options.rows for other in all_rows()):
            continue
        result = results[row.name] = run_row(options, folder, row)
        bits = result["bits_per_weight"]
        cells = [row.what, f"{bits['backbone']:.2f}", f"{bits['branches']:.2f}", f"{bits['branch_reads']:.2f}"]
        for text in ("like", "other"):
            kl = result[text]["kl"]
            cells += [f"{kl['mean']:.3f} +- {kl['error']:.3f}", tables.recovered(result[text]["kl"]["chunks"], results[row.bare][text]["kl"]["chunks"]) if row.bare else ""]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "model", "like", "other"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--calibration", required=True, action="append")
    parser.add_argument("--rows", nargs="*", help="only these, and what they are compared with: " + ", ".join(row.name for row in all_rows()))
    parser.add_argument("--folder", help="where results are kept")
    parser.add_argument("--chunks", type=int, default=14)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        text = table(options, options.folder or scratch)
    if options.document:
        tables.replace(options.document, "compression table", text)


if __name__ == "__main__":
    main()
