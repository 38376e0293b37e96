#!/usr/bin/env python3
"""Writes tests/golden/dequantize/<type>.raw and .f32: blocks of every format and the values the `gguf` package gives them; of our own formats, those that the definition
in docs/formats.md gives, written down once more here.

Needs numpy and gguf (pip install gguf; the committed files were made with 0.19.0). The files are small on purpose: a few random blocks,
then blocks whose scales are extreme (zero, the smallest subnormal, the largest finite, both signs) under all-zero, all-one and counting
codes. Scales are never infinite or NaN: the bits of a NaN are nobody's contract.
"""
import pathlib
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES

# Where the float16 scales lie in a block.
F16_SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q2_K: [80, 82], Type.Q3_K: [108],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [],
}
EXTREMES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF]


def finite_f16(random, count):
    bits = random.integers(0, 1 << 16, count, dtype=np.uint16)
    return np.where((bits & 0x7C00) == 0x7C00, bits & 0xBFFF, bits).astype(np.uint16)


def blocks_of(kind, random):
    elements, size = GGML_QUANT_SIZES[kind]
    count = max(4, 768 // elements)
    random_blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    if kind == Type.MXFP4:
        edges = random.integers(0, 256, (16, size), dtype=np.uint8)
        edges[:, 0] = [0, 1, 2, 3, 126, 127, 128, 129, 200, 250, 251, 252, 253, 254, 255, 255]
        return np.concatenate([random_blocks, edges])
    for at in F16_SCALES[kind]:
        random_blocks[:, at:at + 2] = finite_f16(random, count).view(np.uint8).reshape(count, 2)
    edges = []
    for i, scale in enumerate(EXTREMES):
        codes = [np.zeros(size, np.uint8), np.full(size, 255, np.uint8), (np.arange(size) * 17 % 256).astype(np.uint8)]
        # Every extreme with every pattern where a block is small; one pattern each where it is 256 elements.
        for block in codes if elements == 32 else [codes[i % 3]]:
            for n, at in enumerate(F16_SCALES[kind]):
                block[at:at + 2] = np.array([EXTREMES[(i + 3 * n) % len(EXTREMES)]], np.uint16).view(np.uint8)
            edges.append(block)
    return np.concatenate([random_blocks, np.array(edges)])


# Our own formats (docs/formats.md): bits of the low and the high plane, and the levels of codes.
PLANES = {2: (2, 0), 3: (2, 1), 4: (4, 0)}
EQUAL = {bits: range(1 << bits) for bits in PLANES}
CODEBOOKS = {2: (0, 9, 17, 29), 3: (0, 5, 9, 12, 15, 18, 22, 29), 4: (0, 6, 11, 15, 19, 22, 25, 28, 31, 34, 37, 40, 44, 48, 53, 61)}


def own_values(raw, bits, levels, elements):
    low, high = PLANES[bits]
    blocks = raw.reshape(-1, 4 + elements // 8 * bits)
    levels = np.array(levels)
    scale, minimum = (blocks[:, at:at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    values = []
    for group in range(elements // 32):
        lines = blocks[:, 4 + group * 4 * (low + high):].reshape(len(blocks), -1, 4)
        for k in range(32):
            quad = k // 4
            code = lines[:, quad % low, k % 4].astype(int) >> quad // low * low & (1 << low) - 1
            if high:
                code |= (lines[:, low + quad % high, k % 4].astype(int) >> quad // high * high & (1 << high) - 1) << low
            values.append(scale[:, 0] * levels[code].astype(np.float32) + minimum[:, 0])
    return np.stack(values, axis=1)


def own_blocks(size, random):
    count = 12
    blocks = random.integers(0, 256, (count + len(EXTREMES), size), dtype=np.uint8)
    scales = np.concatenate([finite_f16(random, count), np.array(EXTREMES, np.uint16)])
    minima = np.concatenate([finite_f16(random, count), np.roll(np.array(EXTREMES, np.uint16), 3)])
    blocks[:, 0:2], blocks[:, 2:4] = scales.view(np.uint8).reshape(-1, 2), minima.view(np.uint8).reshape(-1, 2)
    return blocks


def write(out, name, raw, values):
    assert not np.isnan(values).any(), name
    (out / f"{name}.raw").write_bytes(raw.tobytes())
    (out / f"{name}.f32").write_bytes(values.astype("<f4").tobytes())
    print(f"{name}: {raw.size} bytes, {values.size} values")


def plain_values(kind, random):
    if kind == Type.F32:
        bits = random.integers(0, 1 << 32, 256, dtype=np.uint64).astype(np.uint32)
        bits = np.where((bits & 0x7F800000) == 0x7F800000, bits & 0xBFFFFFFF, bits).astype(np.uint32)
        return np.concatenate([bits, np.array([0, 1 << 31, 1, 0x007FFFFF, 0x7F7FFFFF, 0x7F800000, 0xFF800000], np.uint32)]).view(np.uint8)
    infinities = [0x7C00, 0xFC00] if kind == Type.F16 else [0x7F80, 0xFF80]
    bits = finite_f16(random, 256) if kind == Type.F16 else random.integers(0, 0x7F80, 256, dtype=np.uint16)
    return np.concatenate([bits, np.array(EXTREMES + infinities, np.uint16)]).view(np.uint8)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "dequantize")
    out.mkdir(exist_ok=True)
    random = np.random.default_rng(20260131)
    for kind in [Type.F32, Type.F16, Type.BF16, *F16_SCALES]:
        raw = plain_values(kind, random) if kind in (Type.F32, Type.F16, Type.BF16) else blocks_of(kind, random)
        raw = np.ascontiguousarray(raw).reshape(-1)
        values = np.asarray(gguf.dequantize(raw, kind), np.float32).reshape(-1)
        write(out, kind.name, raw, values)
    for letter, tables, elements, ending in (("O", EQUAL, 64, ""), ("N", CODEBOOKS, 64, ""), ("O", EQUAL, 128, "_128"), ("N", CODEBOOKS, 128, "_128")):
        for bits, levels in tables.items():
            raw = own_blocks(4 + elements // 8 * bits, random)
            write(out, f"{letter}{bits}{ending}", np.ascontiguousarray(raw).reshape(-1), own_values(raw, bits, levels, elements).reshape(-1))


if __name__ == "__main__":
    main()
