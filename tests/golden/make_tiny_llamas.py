#!/usr/bin/env python3
"""Makes tiny random llama models with odd shapes and every runnable weight type, and their logits by transformers in float32.

make_tiny_llamas.py DIRECTORY    (tests/golden/logits). Same bytes each time. Needs numpy, gguf, torch, transformers.
"""
import math
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import logits_oracle



def byte_level_alphabet():
    """The 256 characters that stand for bytes in byte-level BPE, in byte order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


def llama3_factors(rope_dim, base, factor, low, high, original):
    """What each frequency is divided by under llama3 scaling (transformers' definition)."""
    factors = []
    for i in range(rope_dim // 2):
        wavelength = 2 * math.pi * base ** (2 * i / rope_dim)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def make(path, seed, width, heads, kv_heads, ffn, types, layers=2, tied=False, base=10000.0, scaling=None, rope_freqs=None, context=256):
    rng = np.random.default_rng(seed)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(pathlib.Path(path).stem)
    w.add_block_count(layers); w.add_context_length(context); w.add_embedding_length(width); w.add_feed_forward_length(ffn)
    w.add_head_count(heads); w.add_head_count_kv(kv_heads); w.add_rope_freq_base(base); w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(width // heads)
    if scaling:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR); w.add_rope_scaling_factor(scaling)
    pieces = byte_level_alphabet() + ["<bos>", "<eos>", "th", "he", "in"]
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2"); w.add_token_list(pieces)
    w.add_token_types([1] * 256 + [3, 3] + [1] * 3); w.add_token_merges(["t h", "h e", "i n"])
    w.add_bos_token_id(256); w.add_eos_token_id(257)

    type_of = iter(types * 100)
    def add(name, rows, columns, kind=None):
        kind = kind or next(type_of)
        data = rng.standard_normal((rows, columns)).astype(np.float32) / math.sqrt(columns) * 1.5
        w.add_tensor(name, gguf.quantize(data, kind), raw_dtype=kind)
    def add_norm(name):
        w.add_tensor(name, (1 + rng.standard_normal(width) / 8).astype(np.float32))

    head_dim = width // heads
    add("token_embd.weight", len(pieces), width, types[0])
    for layer in range(layers):
        add_norm(f"blk.{layer}.attn_norm.weight")
        add(f"blk.{layer}.attn_q.weight", heads * head_dim, width)
        add(f"blk.{layer}.attn_k.weight", kv_heads * head_dim, width)
        add(f"blk.{layer}.attn_v.weight", kv_heads * head_dim, width)
        add(f"blk.{layer}.attn_output.weight", width, heads * head_dim)
        add_norm(f"blk.{layer}.ffn_norm.weight")
        add(f"blk.{layer}.ffn_gate.weight", ffn, width)
        add(f"blk.{layer}.ffn_up.weight", ffn, width)
        add(f"blk.{layer}.ffn_down.weight", width, ffn)
    add_norm("output_norm.weight")
    if not tied:
        add("output.weight", len(pieces), width)
    if rope_freqs is not None:
        w.add_tensor("rope_freqs.weight", rope_freqs)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return len(pieces)


def main():
    out = pathlib.Path(sys.argv[1])
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    models = {
        "odd-f32": dict(seed=1, width=60, heads=3, kv_heads=1, ffn=100, types=[T.F32]),
        "tied-q4_1": dict(seed=2, width=64, heads=4, kv_heads=2, ffn=160, types=[T.Q4_1], tied=True),
        "llama3-mixed": dict(seed=3, width=96, heads=6, kv_heads=3, ffn=96, types=[T.F16, T.BF16, T.Q4_0, T.Q8_0, T.Q4_1, T.F32],
                             rope_freqs=llama3_factors(16, 10000.0, 8.0, 1.0, 4.0, 32)),
        "linear-f16": dict(seed=4, width=40, heads=5, kv_heads=5, ffn=72, types=[T.F16, T.BF16], scaling=4.0, base=50000.0),
        "dense-f16": dict(seed=6, width=64, heads=2, kv_heads=1, ffn=128, types=[T.F16], tied=True, layers=3),
        "q8_0-one-layer": dict(seed=5, width=32, heads=1, kv_heads=1, ffn=224, types=[T.Q8_0, T.Q4_0], layers=1),
    }
    for name, options in models.items():
        path = out / f"{name}.gguf"
        vocabulary = make(str(path), **options)
        oracle = logits_oracle.load(str(path), llama3 if name.startswith("llama3") else None)
        rng = np.random.default_rng(options["seed"])
        sequences = []
        for length in (1, 2, 33, 150):
            tokens = rng.integers(0, vocabulary, length).tolist()
            positions = sorted({0, length // 2, length - 2, length - 1} & set(range(length)))
            sequences.append((tokens, positions, logits_oracle.logits(oracle, tokens)[positions]))
        logits_oracle.write(out / f"{name}.logits", sequences, list(range(vocabulary)))
        print(name, path.stat().st_size, "bytes, largest logit", max(abs(rows).max() for _, _, rows in sequences))


main()
