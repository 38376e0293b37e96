#!/usr/bin/env python3
"""Writes a llama of random two-bit weights with random low-rank branches: random_branched.py VOCABULARY.gguf OUT.gguf [--rank 64] ...

By default every matrix of its 8 layers is 4096 x 4096, with a branch of 64 components: what the cost of branches is measured on where the work between products is
small beside them. Its text means nothing. The same bytes each time. Needs numpy, gguf.
"""
import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import gguf_copy

O2 = 900_002  # docs/formats.md


def matrices(options):
    """(name, rows, columns) of a layer's matrices, in the order of execution."""
    width, kv_width = options.width, options.width // options.heads * options.kv_heads
    return [("attn_q", width, width), ("attn_k", kv_width, width), ("attn_v", kv_width, width), ("attn_output", width, width),
            ("ffn_gate", options.ffn, width), ("ffn_up", options.ffn, width), ("ffn_down", width, options.ffn)]


def two_bit_rows(random, rows, columns):
    """Blocks of 64: scale, minimum, codes. The four values lie evenly around zero, with a deviation that keeps the activations' size."""
    blocks = np.empty((rows, columns // 64, 20), np.uint8)
    scale = np.float16(0.9 / columns**0.5)
    blocks[..., :4] = np.array([scale, np.float16(-1.5) * scale], np.float16).view(np.uint8)
    blocks[..., 4:] = random.integers(0, 256, (rows, columns // 64, 16), np.uint8)
    return blocks.reshape(rows, -1).view(np.int8)


def q4_0_rows(random, rows, columns, size):
    blocks = np.empty((rows, columns // 32, 18), np.uint8)
    blocks[..., :2] = np.array([size / (4.6 * columns**0.5)], np.float16).view(np.uint8)
    blocks[..., 2:] = random.integers(0, 256, (rows, columns // 32, 16), np.uint8)
    return blocks.reshape(rows, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vocabulary")
    parser.add_argument("target")
    for name, default in (("width", 4096), ("layers", 8), ("heads", 32), ("kv_heads", 32), ("ffn", 4096), ("rank", 64), ("seed", 1)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    reader = gguf.GGUFReader(options.vocabulary)
    vocabulary = len(gguf_copy.value(reader, "tokenizer.ggml.tokens"))
    random = np.random.default_rng(options.seed)
    writer = gguf_copy.llama_writer(options, reader, "random llama of two bits")

    def norm(name):
        return (name + ".weight", (options.width,), np.float32, T.F32, lambda: np.ones(options.width, np.float32))

    def q4_0(name, rows, columns, size):
        return (name, (rows, columns // 32 * 18), np.uint8, T.Q4_0, lambda: q4_0_rows(random, rows, columns, size))

    tensors, own = [q4_0("token_embd.weight", vocabulary, options.width, 1)], []
    for layer in range(options.layers):
        block = f"blk.{layer}."
        tensors += [norm(block + "attn_norm"), norm(block + "ffn_norm")]
        for name, rows, columns in matrices(options):
            own.append(f"{block}{name}.weight")
            tensors.append((own[-1], (rows, columns // 64 * 20), np.int8, T.I8, lambda rows=rows, columns=columns: two_bit_rows(random, rows, columns)))
            if options.rank > 0:  # a fifth of what the matrix makes
                tensors += [q4_0(f"{block}{name}.branch_a", options.rank, columns, 1), q4_0(f"{block}{name}.branch_b", rows, options.rank, 0.2)]
    tensors.append(norm("output_norm"))
    writer.add_array("outrigger.own.names", own)
    writer.add_array("outrigger.own.types", [O2] * len(own))
    gguf_copy.write_streaming(writer, tensors)


main()
