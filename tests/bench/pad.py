#!/usr/bin/env python3
"""Pads a small llama with zeros to rows of a multiple of 256, computing what it computes: formats with blocks of 256 then hold a model whose own rows are 576.

pad.py IN.gguf OUT.gguf [--noise SEED]

Attention heads of zeros are added till the residual stream, as wide as the heads together, is a multiple of 256; weights are written as float16. A norm's mean square then also counts
the zeros, which a factor in its weights and in its epsilon makes up for. Unlike repeated columns, zeros carry nothing that a quantiser could use.

--noise  of Q4_1 matrices every weight moves by up to half a step of its block, evenly: weights then lie on no grid of 4 bits, which types with blocks of 32 would find again at no loss.
Needs numpy, gguf.
"""
import argparse
import math

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import gguf_copy

BLOCK = 256  # of K-quants and I-quants


def off_the_grid(values, tensor, random):
    """Q4_1: blocks of 32 weights, 20 bytes of which the first two are the float16 step."""
    steps = tensor.data.reshape(-1, 20)[:, :2].copy().view(np.float16).astype(np.float32)
    return values + ((random.random((len(steps), 32), dtype=np.float32) - np.float32(0.5)) * steps).reshape(values.shape)


def padded(tensor, shapes, norm_factor, random):
    """What write_streaming takes for one tensor."""
    part = tensor.name.split(".")[-2]
    stored = [int(n) for n in reversed(tensor.shape)]
    shape = shapes[part](*stored)
    kind = T.F32 if len(stored) == 1 else T.F16
    factor = norm_factor if part.endswith("norm") else 1

    def make():
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(stored) * np.float32(factor)
        if random is not None and tensor.tensor_type == T.Q4_1:
            values = off_the_grid(values, tensor, random)
        return np.pad(values, [(0, wanted - had) for wanted, had in zip(shape, stored)]).astype(gguf_copy.PLAIN[kind])

    return (tensor.name, shape, gguf_copy.PLAIN[kind], kind, make)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--noise", type=int, metavar="SEED")
    options = parser.parse_args()
    random = None if options.noise is None else np.random.default_rng(options.noise)
    reader = gguf.GGUFReader(options.source)
    if (architecture := gguf_copy.value(reader, "general.architecture")) != "llama":
        raise SystemExit(f"pad: got architecture {architecture}, need llama")
    names = {"hidden": "llama.embedding_length", "heads": "llama.attention.head_count", "kv_heads": "llama.attention.head_count_kv"}
    hidden, heads, kv_heads = (int(gguf_copy.value(reader, name)) for name in names.values())
    head, group = hidden // heads, heads // kv_heads
    step = math.lcm(BLOCK, head * group)  # whole groups of heads, whole blocks
    wide = -(-hidden // step) * step
    sizes = dict(zip(names.values(), (wide, wide // head, wide // head // group)))
    epsilon = "llama.attention.layer_norm_rms_epsilon"
    writer = gguf.GGUFWriter(options.target, architecture)
    gguf_copy.copy_fields(reader, writer, skip={*sizes, epsilon, "general.file_type"})
    for name, size in sizes.items():
        writer.add_uint32(name, size)
    writer.add_float32(epsilon, float(gguf_copy.value(reader, epsilon)) * hidden / wide)
    kv = wide // group

    shapes = {name: lambda rows, columns: (rows, wide) for name in ("token_embd", "output", "ffn_gate", "ffn_up")}
    shapes |= {name: lambda columns: (wide,) for name in ("attn_norm", "ffn_norm", "output_norm")}
    shapes |= {"attn_q": lambda rows, columns: (wide, wide), "attn_k": lambda rows, columns: (kv, wide), "attn_v": lambda rows, columns: (kv, wide),
               "attn_output": lambda rows, columns: (wide, wide), "ffn_down": lambda rows, columns: (wide, columns), "rope_freqs": lambda columns: (columns,)}
    gguf_copy.write_streaming(writer, [padded(tensor, shapes, math.sqrt(hidden / wide), random) for tensor in reader.tensors])


main()
