#!/usr/bin/env python3
"""Writes files of published models' shapes without their weights, for planning: shapes.py FOLDER [NAME ...]

A file is its header and a hole of the right size, so that ninety gigabytes take some kilobytes of the disk where it knows holes. A plan of it is that of the
model; its text would mean nothing. Without names all are made. Needs gguf, numpy.
"""
import argparse
import dataclasses
import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import gguf_copy

ALIGNMENT = 32  # of tensors in a file


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the model's config says. `kind` is the type of the layers' matrices; embedding and head are float16 where that has four bits."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    kind: T
    experts: int = 0
    experts_used: int = 0
    is_tied: bool = False


SHAPES = {
    "mixtral-8x7b-bf16": Shape(32, 4096, 32, 8, 14336, 32000, T.BF16, experts=8, experts_used=2),
    "mixtral-8x22b-bf16": Shape(56, 6144, 48, 8, 16384, 32000, T.BF16, experts=8, experts_used=2),
    "mistral-7b-bf16": Shape(32, 4096, 32, 8, 14336, 32000, T.BF16),
    "llama-3.1-70b-q4_0": Shape(80, 8192, 64, 8, 28672, 128256, T.Q4_0),
    "llama-3.1-8b-q4_0": Shape(32, 4096, 32, 8, 14336, 128256, T.Q4_0),
    "llama-3.2-1b-bf16": Shape(16, 2048, 32, 8, 8192, 128256, T.BF16, is_tied=True),
    "qwen2.5-7b-f16": Shape(28, 3584, 28, 4, 18944, 152064, T.F16),
    "qwen2.5-32b-f16": Shape(64, 5120, 40, 8, 27648, 152064, T.F16),
}


def tensors(shape):
    """(name, extents as a file counts them, type) in the order of execution; biases, which take next to nothing, are left out."""
    outer = T.F16 if shape.kind == T.Q4_0 else shape.kind
    kv_width = shape.width // shape.heads * shape.kv_heads
    yield "token_embd.weight", (shape.vocabulary, shape.width), outer
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (shape.width,), T.F32
        yield block + "attn_q.weight", (shape.width, shape.width), shape.kind
        yield block + "attn_k.weight", (kv_width, shape.width), shape.kind
        yield block + "attn_v.weight", (kv_width, shape.width), shape.kind
        yield block + "attn_output.weight", (shape.width, shape.width), shape.kind
        yield block + "ffn_norm.weight", (shape.width,), T.F32
        stack, suffix = ((shape.experts,), "_exps") if shape.experts else ((), "")
        if shape.experts:
            yield block + "ffn_gate_inp.weight", (shape.experts, shape.width), T.F32
        yield block + f"ffn_gate{suffix}.weight", (*stack, shape.ffn, shape.width), shape.kind
        yield block + f"ffn_up{suffix}.weight", (*stack, shape.ffn, shape.width), shape.kind
        yield block + f"ffn_down{suffix}.weight", (*stack, shape.width, shape.ffn), shape.kind
    yield "output_norm.weight", (shape.width,), T.F32
    if not shape.is_tied:
        yield "output.weight", (shape.vocabulary, shape.width), outer


def stored_bytes(extents, kind):
    """Of a tensor, and how its rows are stored: (bytes, extents in the units of numpy's type, that type, whether the kind must be said)."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    size = int(np.prod(extents, dtype=np.int64)) // block * block_bytes
    if kind in (T.F32, T.F16):
        return size, extents, np.dtype(np.float32 if kind == T.F32 else np.float16), False
    return size, (*extents[:-1], extents[-1] // block * block_bytes), np.dtype(np.uint8), True


def write(path, name, shape):
    writer = gguf.GGUFWriter(path, "llama")
    gguf_copy.add_llama_fields(writer, name, shape, shape.vocabulary, context_tokens=32768, rope_base=1e6)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
    total = 0
    for tensor, extents, kind in tensors(shape):
        size, stored, dtype, is_named = stored_bytes(extents, kind)
        writer.add_tensor_info(tensor, stored, dtype, size, raw_dtype=kind if is_named else None)
        total += -(-size // ALIGNMENT) * ALIGNMENT
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = -(-os.path.getsize(path) // ALIGNMENT) * ALIGNMENT
    os.truncate(path, header + total)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SHAPES))
    options = parser.parse_args()
    if unknown := set(options.names) - set(SHAPES):
        parser.error(f"no shape {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    os.makedirs(options.folder, exist_ok=True)
    for name in options.names or SHAPES:
        path = os.path.join(options.folder, name + ".gguf")
        write(path, name, SHAPES[name])
        print(f"{path}: {os.path.getsize(path) / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
