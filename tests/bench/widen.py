#!/usr/bin/env python3
"""Makes a big model that computes what a small llama computes: a real function at any size, where no big model can be fetched.

widen.py IN.gguf OUT.gguf [--ffn F] [--hidden H] [--type keep|f16|f32]

--ffn F     every neuron of the feed-forward blocks F times, the columns of `down` divided by F.
--hidden H  every element of the residual stream and every attention head H times, and the columns of each matrix that reads them divided
            by H. RMSNorm sees the same mean square. Rows become H times as long, so that formats with blocks of 256 hold a model whose
            own rows are 576. Needs --type f16 or f32.
--type      keep the file's types, or write matrices as float16 or float32. A kept Q4_1 block is divided by dividing its scale and
            minimum: exact for powers of two, down to float16's subnormals.
Needs numpy, gguf. Tensors are written one after the other: memory for the largest one is enough.
"""
import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import gguf_copy

OUT_TYPES = {"f16": T.F16, "f32": T.F32}


def repeats(part, ffn, hidden):
    """How often a tensor's rows and columns are repeated, and what its values are divided by."""
    return {
        # The tied head reads this too. Not the table, the norm before the head is divided.
        "token_embd": (1, hidden, 1), "output": (1, hidden, 1), "output_norm": (1, hidden, hidden),
        "attn_norm": (1, hidden, 1), "ffn_norm": (1, hidden, 1),
        "attn_q": (hidden, hidden, hidden), "attn_k": (hidden, hidden, hidden), "attn_v": (hidden, hidden, hidden),
        "attn_output": (hidden, hidden, hidden), "ffn_gate": (ffn, hidden, hidden), "ffn_up": (ffn, hidden, hidden),
        "ffn_down": (hidden, ffn, ffn), "rope_freqs": (1, 1, 1),
    }[part]


def divided(data, kind, by):
    """The stored array of `kind` with all its values divided by `by`."""
    if by == 1:
        return data
    if kind in gguf_copy.PLAIN:
        return data / data.dtype.type(by)
    if kind != T.Q4_1:
        raise SystemExit(f"widen: cannot divide {kind.name} as it is; need --type f16 or f32")
    blocks = data.reshape(-1, 20).copy()
    scale_and_minimum = blocks[:, :4].copy().view(np.float16)
    blocks[:, :4] = (scale_and_minimum / np.float16(by)).view(np.uint8)
    return blocks.reshape(data.shape)


def widened(tensor, options):
    """What write_streaming takes for one tensor."""
    rows, columns, by = repeats(tensor.name.split(".")[-2], options.ffn, options.hidden)
    is_matrix = len(tensor.shape) > 1
    converts = is_matrix and options.type != "keep" and tensor.tensor_type != OUT_TYPES[options.type]
    kind = OUT_TYPES[options.type] if converts else tensor.tensor_type
    stored = [int(n) for n in reversed(tensor.shape)] if converts else list(tensor.data.shape)
    shape = (stored[0] * rows, stored[1] * columns) if is_matrix else (stored[0] * columns,)

    def make():
        if not converts:
            data = divided(tensor.data, kind, by)
        else:
            values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(stored)
            data = divided(values, T.F32, by).astype(gguf_copy.PLAIN[kind])
        return np.tile(data, (rows, columns) if is_matrix else columns)

    return (tensor.name, shape, gguf_copy.PLAIN[kind] if converts else tensor.data.dtype, kind, make)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--ffn", type=int, default=1, metavar="F")
    parser.add_argument("--hidden", type=int, default=1, metavar="H")
    parser.add_argument("--type", choices=("keep", *OUT_TYPES), default="keep")
    options = parser.parse_args()
    reader = gguf.GGUFReader(options.source)
    architecture = gguf_copy.value(reader, "general.architecture")
    if architecture != "llama":
        raise SystemExit(f"widen: got architecture {architecture}, need llama")
    if options.hidden > 1 and options.type == "keep":
        raise SystemExit("widen: --hidden needs --type f16 or f32: blocks that begin inside a row cannot be repeated")
    sizes = {"llama.feed_forward_length": options.ffn, "llama.embedding_length": options.hidden,
             "llama.attention.head_count": options.hidden, "llama.attention.head_count_kv": options.hidden}
    writer = gguf.GGUFWriter(options.target, architecture)
    gguf_copy.copy_fields(reader, writer, skip={*sizes, "general.file_type"})
    for name, times in sizes.items():
        writer.add_uint32(name, int(gguf_copy.value(reader, name)) * times)
    gguf_copy.write_streaming(writer, [widened(tensor, options) for tensor in reader.tensors])


main()
