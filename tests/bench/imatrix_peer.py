#!/usr/bin/env python3
"""Compressed models beside llama.cpp's types with an importance matrix of the same text, at the same bits of the layers' matrices.

imatrix_peer.py --outrigger TOOL --llama-imatrix TOOL --llama-quantize TOOL --model FILE.gguf --calibration TEXT --like TEXT --other TEXT
                [--types Q2_K Q3_K_S ...] [--chunks 14] [--more='--levels codebook'] [--document FILE.md]

Each type is a file made by llama-quantize (embedding and head left as the model has them, so that only the layers differ) and, beside it, one of `compress --bits mixed:B` with B the bits that
the type's layers really take, at most 4.5: rows that are no multiple of 256 make llama.cpp take larger types. Both are compared with the model by `eval --reference`. Some three minutes a type on two cores for
135 million weights. Standard library only.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

import tables

TYPES = ("Q2_K_S", "Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_XS", "Q4_K_S")
LEAST_BITS, MOST_BITS = 2.5, 4.5  # of `compress`


def run(*command):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"imatrix_peer: `{' '.join(map(str, command))}` ended with {done.returncode}:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def tool_json(options, *arguments):
    return json.loads(run(options.outrigger, *arguments, "--json", "--progress", "none"))


def layer_matrices(options, file):
    """Those of the layers, without norms and biases."""
    return [tensor for tensor in tool_json(options, "inspect", file, "--tensors")["tensors"] if tensor["name"].startswith("blk.") and len(tensor["shape"]) > 1]


def weights_of(tensor):
    weights = 1
    for extent in tensor["shape"]:
        weights *= extent
    return weights


def layer_bits(options, file):
    matrices = layer_matrices(options, file)
    return 8 * sum(tensor["bytes"] for tensor in matrices) / sum(map(weights_of, matrices))


def distances(options, file):
    cells = []
    for text in (options.like, options.other):
        kl = tool_json(options, "eval", file, "--reference", options.model, "--text", text, "--chunks", options.chunks)["kl"]
        cells.append(f"{kl['mean']:.3f} +- {kl['error']:.3f}")
    return cells


def type_of(options, name):
    """How llama-quantize calls the type that the model's tensor has."""
    return next((tensor["type"].lower() for tensor in tool_json(options, "inspect", options.model, "--tensors")["tensors"] if tensor["name"] == name), None)


def table(options, folder):
    matrix, theirs, ours = (os.path.join(folder, name) for name in ("imatrix.gguf", "theirs.gguf", "ours.gguf"))
    run(options.llama_imatrix, "-m", options.model, "-f", options.calibration, "-o", matrix, "-c", 512, "--chunks", options.calibration_chunks)
    kept = [word for flag, name in (("--token-embedding-type", "token_embd.weight"), ("--output-tensor-type", "output.weight")) if (kind := type_of(options, name))
            for word in (flag, kind)]
    lines = [f"{time.strftime('%Y-%m-%d')}, {os.path.basename(options.model)}; calibrated on {options.calibration_chunks} chunks, each text {options.chunks} chunks.", "",
             "| | bits of the layers | KL, like text | KL, other text |", "|---|---|---|---|"]
    for kind in options.types:
        run(options.llama_quantize, "--allow-requantize", "--imatrix", matrix, *kept, options.model, theirs, kind)
        bits = layer_bits(options, theirs)
        names = sorted({tensor["type"] for tensor in layer_matrices(options, theirs)})
        rows = [(f"llama.cpp {kind} ({', '.join(names)})", bits, distances(options, theirs))]
        if bits >= LEAST_BITS:
            mixed = int(100 * min(bits, MOST_BITS)) / 100
            tool_json(options, "compress", options.model, "-o", ours, "--bits", f"mixed:{mixed}", "--calibration", options.calibration, "--chunks", options.calibration_chunks, "--quality-chunks", 0,
                      *shlex.split(options.more))
            rows.append((" ".join(filter(None, (f"compress --bits mixed:{mixed}", options.more))), layer_bits(options, ours), distances(options, ours)))
        for name, stored, cells in rows:
            lines.append(f"| {name} | {stored:.2f} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "llama-imatrix", "llama-quantize", "model", "calibration", "like", "other"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--calibration-chunks", type=int, default=32, help="of 512 tokens, for both programs")
    parser.add_argument("--chunks", type=int, default=14)
    parser.add_argument("--more", default="", help="options of compress besides: --more='--levels codebook'")
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        text = table(options, scratch)
    if options.document:
        tables.replace(options.document, "imatrix table", text)


if __name__ == "__main__":
    main()
