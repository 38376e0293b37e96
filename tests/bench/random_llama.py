#!/usr/bin/env python3
"""Writes a llama of random float16 weights with another model's vocabulary: random_llama.py VOCABULARY.gguf OUT.gguf [--layers N] ...

1.07 G parameters by default, rows of 2048 and 8192: what speed is measured on for formats whose blocks do not fit the default model's
rows. Its text means nothing. The same bytes each time. Needs numpy, gguf; memory for the largest matrix.
"""
import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import gguf_copy


def matrices(options, vocabulary):
    """(name, rows, columns) of every matrix, and (name, width) of every norm, in the order of execution."""
    width, heads, kv_heads, ffn = options.width, options.heads, options.kv_heads, options.ffn
    kv_width = width // heads * kv_heads
    yield "token_embd", vocabulary, width
    for layer in range(options.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm", 0, width
        yield block + "attn_q", width, width
        yield block + "attn_k", kv_width, width
        yield block + "attn_v", kv_width, width
        yield block + "attn_output", width, width
        yield block + "ffn_norm", 0, width
        yield block + "ffn_gate", ffn, width
        yield block + "ffn_up", ffn, width
        yield block + "ffn_down", width, ffn
    yield "output_norm", 0, width


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vocabulary")
    parser.add_argument("target")
    for name, default in (("width", 2048), ("layers", 16), ("heads", 32), ("kv_heads", 8), ("ffn", 8192), ("seed", 1)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    reader = gguf.GGUFReader(options.vocabulary)
    vocabulary = len(gguf_copy.value(reader, "tokenizer.ggml.tokens"))
    random = np.random.default_rng(options.seed)
    writer = gguf_copy.llama_writer(options, reader, "random llama")

    def tensor(name, rows, columns):
        if rows == 0:
            return (name + ".weight", (columns,), gguf_copy.PLAIN[T.F32], T.F32, lambda: np.ones(columns, np.float32))
        # A standard deviation of 1 / sqrt(columns) keeps the activations' size from layer to layer.
        return (name + ".weight", (rows, columns), gguf_copy.PLAIN[T.F16], T.F16,
                lambda: (random.standard_normal((rows, columns), np.float32) / np.float32(columns**0.5)).astype(np.float16))

    gguf_copy.write_streaming(writer, [tensor(*matrix) for matrix in matrices(options, vocabulary)])


main()
