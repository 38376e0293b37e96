#!/usr/bin/env python3
"""Writes valid tiny models and the catalogue of malformed ones derived from them, into the folder given.

    make_bad_gguf.py FOLDER

valid.gguf      a llama of one layer: width 32, 2 heads, 1 KV head, 300 tokens (SentencePiece with byte fallback), F32 and Q4_1 weights
valid_bpe.gguf  the same weights with a byte-level BPE vocabulary
valid_qwen2.gguf, valid_qwen3.gguf  the same with the biases or norms of those architectures
valid_mixtral.gguf, valid_qwen2moe.gguf, valid_qwen3moe.gguf  the same with 4 experts of width 32 or 64, 2 used
valid_mixtral_split.gguf  valid_mixtral.gguf with one tensor an expert
valid_packed.gguf  what packing makes of valid.gguf, byte for byte, worked out here from docs/formats.md
catalogue.tsv   one malformed file a line: file, level, status code, text, offset. Tab-separated:
                level   container: GgufFile::open must refuse it; model: it opens as a container, opening the model must refuse it
                text    what the error must contain, in message, subject or offset; alternatives are separated by |
                offset  the byte offset the error must carry; * any but 0
fields.tsv      where valid.gguf's header holds an integer: offset, bytes, what. For systematic mutation.

Needs nothing but Python 3.
"""
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}
TYPE_F32, TYPE_Q4_1, TYPE_I8 = 0, 3, 24
PACKED, PACKED_ALIGNMENT, LAYOUT_KEY = 1000000, 4096, "outrigger.packed.layout"
NAN, INFINITY = float("nan"), float("inf")


class Random:
    """A linear congruential generator, so that the files are the same everywhere."""

    def __init__(self, seed):
        self.state = seed

    def next(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % limit


class Gguf:
    """A file as lists; to_bytes() also notes where each field went."""

    def __init__(self):
        self.entries = {}   # key -> (type, value); an array is (ARRAY, (element type, list))
        self.tensors = {}   # name -> (type, dims, bytes)
        self.at = {}        # after to_bytes(): field -> (offset, bytes)

    def copy(self):
        other = Gguf()
        other.entries, other.tensors = dict(self.entries), dict(self.tensors)
        return other

    def to_bytes(self, alignment=32):
        out = bytearray(b"GGUF")

        def number(field, fmt, value):
            self.at[field] = (len(out), struct.calcsize(fmt))
            out.extend(struct.pack(fmt, value))

        def text(field, value):
            value = value.encode() if isinstance(value, str) else value
            number(field + " length", "<Q", len(value))
            self.at[field] = (len(out), len(value))
            out.extend(value)

        number("version", "<I", 3)
        number("tensor count", "<Q", len(self.tensors))
        number("entry count", "<Q", len(self.entries))
        for key, (kind, value) in self.entries.items():
            text(f"{key}: key", key)
            number(f"{key}: type", "<I", kind)
            if kind == ARRAY:
                element, values = value
                number(f"{key}: element type", "<I", element)
                number(f"{key}: count", "<Q", len(values))
                for i, v in enumerate(values):
                    field = f"{key}: value {i}"
                    text(field, v) if element == STRING else number(field, FORMATS[element], v)
            elif kind == STRING:
                text(f"{key}: value", value)
            else:
                number(f"{key}: value", FORMATS[kind], value)
        position = 0
        for name, (kind, dims, data) in self.tensors.items():
            text(f"{name}: name", name)
            number(f"{name}: rank", "<I", len(dims))
            for i, dim in enumerate(dims):
                number(f"{name}: dim {i}", "<Q", dim)
            number(f"{name}: type", "<I", kind)
            number(f"{name}: offset", "<Q", position)
            position += len(data) + -len(data) % alignment
        self.at["end"] = (len(out), 0)
        out.extend(bytes(-len(out) % alignment))
        self.at["data"] = (len(out), 0)
        for name, (kind, dims, data) in self.tensors.items():
            self.at[f"{name}: data"] = (len(out), len(data))
            out.extend(data)
            out.extend(bytes(-len(data) % alignment))
        return bytes(out)


def q4_1(random, rows, columns):
    """Blocks of 32: a scale and a minimum around +-0.1, random codes."""
    out = bytearray()
    for _ in range(rows * columns // 32):
        scale = (1 + random.next(8)) / 512
        out += struct.pack("<ee", scale, -7.5 * scale) + bytes(random.next(256) for _ in range(16))
    return bytes(out)


def add_tensors(model, layers=1, width=32, heads=2, kv_heads=1, ffn=64, tokens=300):
    random = Random(42)
    kv = width // heads * kv_heads

    def matrix(name, columns, rows):
        model.tensors[name] = (TYPE_Q4_1, [columns, rows], q4_1(random, rows, columns))

    def norm(name):
        model.tensors[name] = (TYPE_F32, [width], struct.pack(f"<{width}f", *(0.5 + random.next(1000) / 1000 for _ in range(width))))

    matrix("token_embd.weight", width, tokens)
    for i in range(layers):
        norm(f"blk.{i}.attn_norm.weight")
        matrix(f"blk.{i}.attn_q.weight", width, width)
        matrix(f"blk.{i}.attn_k.weight", width, kv)
        matrix(f"blk.{i}.attn_v.weight", width, kv)
        matrix(f"blk.{i}.attn_output.weight", width, width)
        norm(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.ffn_gate.weight", width, ffn)
        matrix(f"blk.{i}.ffn_up.weight", width, ffn)
        matrix(f"blk.{i}.ffn_down.weight", ffn, width)
    norm("output_norm.weight")
    matrix("output.weight", width, tokens)


def add_config(model, name):
    model.entries.update({
        "general.architecture": (STRING, "llama"),
        "general.name": (STRING, name),
        "general.alignment": (U32, 32),
        "llama.block_count": (U32, 1),
        "llama.context_length": (U32, 128),
        "llama.embedding_length": (U32, 32),
        "llama.feed_forward_length": (U32, 64),
        "llama.attention.head_count": (U32, 2),
        "llama.attention.head_count_kv": (U32, 1),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.freq_base": (F32, 10000.0),
        "llama.rope.dimension_count": (U32, 16),
        "llama.vocab_size": (U32, 300),
    })


def sentencepiece_model():
    """300 tokens: three special, 256 bytes, the space mark, letters, and a few pieces that letters merge to."""
    model = Gguf()
    add_config(model, "tiny llama")
    pieces = ["\u2581"] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces += ["\u2581t", "he", "\u2581the", "in", "er", "an", "\u2581a", "or", "on", "re", "es", "en", "ing", "\u2581\u2581"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces
    assert len(tokens) == 300
    model.entries.update({
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
        "tokenizer.ggml.scores": (ARRAY, (F32, [0.0] * 259 + [-float(i) for i in range(len(pieces))])),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [2, 3, 3] + [6] * 256 + [1] * len(pieces))),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
        "tokenizer.ggml.unknown_token_id": (U32, 0),
        "tokenizer.ggml.add_bos_token": (BOOL, 1),
        "tokenizer.ggml.add_eos_token": (BOOL, 0),
    })
    add_tensors(model)
    return model


def byte_characters():
    """The printable character that byte-level BPE writes for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def bpe_model():
    """300 tokens: 256 bytes, 42 merged pieces, two special."""
    model = Gguf()
    add_config(model, "tiny llama, BPE")
    space = byte_characters()[32]
    merges = [f"{space} t", "h e", f"{space}t he", "i n", "e r", "a n", f"{space} a", "o r", "o n", "r e", "e s", "e n", "in g", "a t", "i t",
              "o u", "l l", "s t", "c h", f"{space} w", f"{space} s", f"{space} c", f"{space} b", f"{space} f", f"{space} h", f"{space} p",
              f"{space} m", f"{space} d", f"{space} o", f"{space} in", "a l", "a r", "l e", "e d", "v e", "n d", "o m", "i s", "i c", "t h",
              "u r", "o t"]
    tokens = list(byte_characters().values()) + [m.replace(" ", "") for m in merges] + ["<|endoftext|>", "<|pad|>"]
    assert len(tokens) == len(set(tokens)) == 300
    model.entries.update({
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "smollm"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [1] * 298 + [3, 3])),
        "tokenizer.ggml.merges": (ARRAY, (STRING, merges)),
        "tokenizer.ggml.bos_token_id": (U32, 298),
        "tokenizer.ggml.eos_token_id": (U32, 298),
        "tokenizer.ggml.padding_token_id": (U32, 299),
        "tokenizer.ggml.add_bos_token": (BOOL, 0),
    })
    add_tensors(model)
    return model


def as_architecture(model, name, vectors):
    """The same model under another architecture's name, with more vectors: name -> length."""
    other = Gguf()
    old = model.entries["general.architecture"][1] + "."
    other.entries = {key.replace(old, f"{name}.") if key.startswith(old) else key: value for key, value in model.entries.items()}
    other.entries["general.architecture"] = (STRING, name)
    other.tensors = dict(model.tensors)
    other.tensors.update({f"blk.0.{vector}": (TYPE_F32, [length], struct.pack("<f", 0.5) * length) for vector, length in vectors.items()})
    return other


def as_mixture(model, experts=4, width=32, shared=0):
    """The same model with a mixture of experts in place of its feed-forward matrices; without a width of their own, llama's experts have the model's."""
    random, other = Random(43), model.copy()
    arch = model.entries["general.architecture"][1]
    other.entries.update({f"{arch}.expert_count": (U32, experts), f"{arch}.expert_used_count": (U32, 2)})
    if arch != "llama":
        other.entries[f"{arch}.expert_feed_forward_length"] = (U32, width)
    ffn = width if arch != "llama" else model.entries[f"{arch}.feed_forward_length"][1]
    for part in ("gate", "up", "down"):
        columns, rows = (ffn, 32) if part == "down" else (32, ffn)
        del other.tensors[f"blk.0.ffn_{part}.weight"]
        other.tensors[f"blk.0.ffn_{part}_exps.weight"] = (TYPE_Q4_1, [columns, rows, experts], q4_1(random, rows * experts, columns))
        if shared:
            columns, rows = (shared, 32) if part == "down" else (32, shared)
            other.tensors[f"blk.0.ffn_{part}_shexp.weight"] = (TYPE_Q4_1, [columns, rows], q4_1(random, rows, columns))

    def floats(count):
        return struct.pack(f"<{count}f", *(random.next(1000) / 500 - 1 for _ in range(count)))
    other.tensors["blk.0.ffn_gate_inp.weight"] = (TYPE_F32, [32, experts], floats(32 * experts))
    if shared:
        other.entries[f"{arch}.expert_shared_feed_forward_length"] = (U32, shared)
        other.tensors["blk.0.ffn_gate_inp_shexp.weight"] = (TYPE_F32, [32], floats(32))
    return other


def one_by_one(model):
    """A mixture with each stack as one tensor an expert, as files of 2023 have them."""
    other = model.copy()
    for name, (kind, dims, data) in model.tensors.items():
        if "_exps." in name:
            del other.tensors[name]
            size = len(data) // dims[2]
            for expert in range(dims[2]):
                other.tensors[name.replace("_exps.", f".{expert}.")] = (kind, dims[:2], data[expert * size:(expert + 1) * size])
    return other


def pack_q4_1(data, columns, rows):
    """Sixteen rows a block; 32 columns of one: scales, minima, then four lines of 64 bytes in which two codes share a byte."""
    out = bytearray()
    row_bytes = columns // 32 * 20
    for first in range(0, rows, 16):
        for group in range(columns // 32):
            scales, minima, lines = bytearray(32), bytearray(32), bytearray(256)
            for row in range(min(16, rows - first)):
                block = data[(first + row) * row_bytes + group * 20:][:20]
                scales[row * 2:row * 2 + 2], minima[row * 2:row * 2 + 2] = block[:2], block[2:4]
                for k in range(32):
                    code = block[4 + k % 16] >> k // 16 * 4 & 15
                    quad = k // 4
                    lines[quad % 4 * 64 + row * 4 + k % 4] |= code << quad // 4 * 4
            out += scales + minima + lines
    return bytes(out)


def packed_model(model):
    """Small tensors first, then matrices in the order of a step; of the embedding only rows are looked up."""
    packed = Gguf()
    packed.entries = {**model.entries, "general.alignment": (U32, PACKED_ALIGNMENT), LAYOUT_KEY: (U32, 1)}
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    order = [f"blk.0.{part}.weight" for part in parts] + ["output.weight", "token_embd.weight"]
    packed.tensors = {name: tensor for name, tensor in model.tensors.items() if name not in order}
    for name in order:
        kind, dims, data = model.tensors[name]
        is_multiplied = name != "token_embd.weight"
        packed.tensors[name] = (PACKED + kind, dims, pack_q4_1(data, *dims)) if is_multiplied else (kind, dims, data)
    return packed


class Catalogue:
    def __init__(self, folder):
        self.folder, self.rows = folder, []

    def add(self, name, level, code, text, data, offset="*"):
        assert name not in {row[0] for row in self.rows}, name
        (self.folder / f"{name}.gguf").write_bytes(data)
        self.rows.append((name, level, code, text, str(offset)))

    def write(self):
        lines = ["\t".join((f"{name}.gguf", *rest)) for name, *rest in self.rows]
        (self.folder / "catalogue.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def add_container_rows(catalogue, valid):
    model = valid.copy()
    good, at = model.to_bytes(), model.at
    corrupt, unsupported = "CORRUPT_FILE", "UNSUPPORTED"
    end, size = at["end"][0], len(good)

    def raw(name, text, data, offset="*", code=corrupt):
        catalogue.add(name, "container", code, text, data, offset)

    def poke(name, field, value, text, offset="*", code=corrupt, bytes_=None):
        """The valid file with one integer changed, or some bytes."""
        start, length = at[field]
        new = value if isinstance(value, bytes) else struct.pack({4: "<I", 8: "<Q", 1: "<B"}[bytes_ or length], value)
        raw(name, text, good[:start] + new + good[start + len(new):], start if offset == "here" else offset, code)

    def rebuilt(name, text, change, offset="*", code=corrupt):
        """The model with a change to its lists, written anew."""
        changed = valid.copy()
        change(changed)
        raw(name, text, changed.to_bytes(), offset, code)

    # What is no GGUF at all.
    raw("empty", "4 bytes needed, 0 remain", b"", 0)
    raw("one_byte", "4 bytes needed, 1 remain", b"G", 0)
    raw("magic_only", "version", b"GGUF", 4)
    raw("magic_and_version", "number of tensors", good[:8], 8)
    raw("one_byte_short_of_counts", "8 bytes needed, 7 remain", good[:23], 16)
    raw("magic_ggml", "not a GGUF file", b"ggml" + good[4:], 0)
    raw("magic_reversed", "not a GGUF file", b"FUGG" + good[4:], 0)
    raw("zeros", "not a GGUF file", bytes(4096), 0)
    raw("shell_script", "not a GGUF file", b"#!/bin/sh\necho no model\n", 0)
    raw("safetensors", "not a GGUF file", struct.pack("<Q", 2) + b"{}" + bytes(64), 0)
    raw("zip", "not a GGUF file", b"PK\x03\x04" + bytes(64), 0)

    for value in (0, 1, 2, 4, 2**31 - 1, 2**32 - 1):
        poke(f"version_{value}", "version", value, f"version {value};", 4, unsupported)
    poke("version_big_endian", "version", struct.pack(">I", 3), "big-endian", 4, unsupported)

    # Counts.
    for value, label in ((2**63, "2_63"), (2**64 - 1, "2_64_less_1"), (10**6, "million")):
        poke(f"tensor_count_{label}", "tensor count", value, f"{value} tensors", 8)
        poke(f"entry_count_{label}", "entry count", value, f"{value} metadata entries", 16)
    poke("tensor_count_one_more", "tensor count", len(model.tensors) + 1, "tensor name is empty")
    poke("entry_count_one_more", "entry count", len(model.entries) + 1, "token_embd.weight")
    poke("entry_count_one_less", "entry count", len(model.entries) - 1, "tokenizer.ggml.add_eos_token")

    # Keys.
    key = "general.name: key"
    after_length = at[key][0]
    for value, label in ((2**64 - 1, "2_64_less_1"), (2**63, "2_63"), (2**31, "2_31"), (size - after_length + 1, "one_beyond_the_end")):
        poke(f"key_length_{label}", f"{key} length", value, f"{value} bytes needed", after_length)
    poke("key_length_0", f"{key} length", 0, "metadata key is empty", after_length)
    poke("key_with_nul", key, b"gen\0", "control character 0", after_length + 3)
    poke("key_with_newline", key, b"gen\n", "control character 10", after_length + 3)
    poke("key_with_byte_ff", key, b"g\xff", "UTF-8", after_length + 1)
    poke("key_overlong_utf8", key, b"\xc0\x80", "UTF-8", after_length)
    poke("key_surrogate", key, b"\xed\xa0\x80", "UTF-8", after_length)
    poke("key_beyond_unicode", key, b"\xf4\x90\x80\x80", "UTF-8", after_length)
    poke("key_cut_character", key, b"general.na\xe2\x82", "UTF-8", after_length + 10)

    def long_key(m):
        m.entries["k" * 65536] = (U32, 1)
    rebuilt("key_too_long", "65536 bytes, at most 65535", long_key)

    # Values.
    for value in (13, 255, 2**31, 2**32 - 1):
        poke(f"value_type_{value}", "llama.block_count: type", value, f"value type {value}", "here")
    poke("value_type_array_of_nothing", "llama.block_count: type", ARRAY, "llama.block_count")
    for value in (13, 2**32 - 1):
        poke(f"array_type_{value}", "tokenizer.ggml.scores: element type", value, f"element type {value}", "here")
    poke("array_of_arrays", "tokenizer.ggml.scores: element type", ARRAY, "array of arrays", "here")

    # 500 arrays of one array each: a reader that recurses would pay for each.
    start = at["llama.block_count: type"][0]
    chain = struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 500 + struct.pack("<IQB", U8, 1, 0)
    raw("arrays_500_deep", "array of arrays", good[:start] + chain + good[start + 8:], start + 4)

    scores, tokens = "tokenizer.ggml.scores: count", "tokenizer.ggml.tokens: count"
    for value, label in ((2**63, "2_63"), (2**64 - 1, "2_64_less_1"), (2**62 + 1, "that_wraps"), (size, "beyond_the_end")):
        poke(f"array_count_{label}", scores, value, "tokenizer.ggml.scores")
        poke(f"strings_count_{label}", tokens, value, "tokenizer.ggml.tokens")
    poke("strings_count_one_more", tokens, 301, "tokenizer.ggml.tokens")
    name_length = "general.name: value length"
    for value, label in ((2**64 - 1, "2_64_less_1"), (2**63 - 1, "2_63_less_1"), (size - at["general.name: value"][0] + 1, "one_beyond_the_end")):
        poke(f"string_length_{label}", name_length, value, f"{value} bytes needed", at["general.name: value"][0])
    for i in (0, 150, 299):
        poke(f"token_{i}_length", f"tokenizer.ggml.tokens: value {i} length", 2**64 - 8, "tokenizer.ggml.tokens",
             at[f"tokenizer.ggml.tokens: value {i}"][0])
    for value in (2, 255):
        poke(f"bool_{value}", "tokenizer.ggml.add_bos_token: value", value, f"a bool is {value}", "here")

    def bool_array(m):
        m.entries["flags"] = (ARRAY, (BOOL, [0, 1, 1, 0, 7]))
    rebuilt("bool_array", "a bool is 7", bool_array)

    # Duplicates: one more entry, written beside the lists.
    def with_extra_entry(extra):
        start = at["general.architecture: key length"][0]
        return good[:16] + struct.pack("<Q", len(model.entries) + 1) + extra + good[start:]

    def entry(key, kind, value):
        return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value
    raw("key_twice", "twice", with_extra_entry(entry("general.name", U32, bytes(4))))
    raw("alignment_twice", "general.alignment", with_extra_entry(entry("general.alignment", U32, struct.pack("<I", 32))))
    raw("last_key_twice", "tokenizer.ggml.add_eos_token", with_extra_entry(entry("tokenizer.ggml.add_eos_token", BOOL, b"\0")))
    same_length = "blk.0.attn_k.weight"
    poke("tensor_twice", f"{same_length}: name", b"blk.0.attn_v.weight", "blk.0.attn_v.weight", at["blk.0.attn_v.weight: name length"][0])

    # Alignment.
    for value in (0, 3, 13, 33, 2**17, 2**30, 2**31):
        poke(f"alignment_{value}", "general.alignment: value", value, f"is {value}; a power of two", "here")
    for kind, value, label in ((U64, 32, "u64"), (I32, 32, "i32"), (F32, 32.0, "f32"), (STRING, "32", "string"), (BOOL, 1, "bool")):
        def retyped(m, kind=kind, value=value):
            m.entries["general.alignment"] = (kind, value)
        rebuilt(f"alignment_{label}", "u32 is needed", retyped)

    # Tensors.
    q = "blk.0.attn_q.weight"
    q_name = at[f"{q}: name"][0]
    for value, label in ((2**64 - 1, "2_64_less_1"), (size, "beyond_the_end")):
        poke(f"name_length_{label}", f"{q}: name length", value, f"{value} bytes needed", q_name)
    poke("name_length_0", f"{q}: name length", 0, "tensor name is empty", q_name)
    poke("name_with_nul", f"{q}: name", b"blk\0", "control character 0", q_name + 3)
    poke("name_with_escape", f"{q}: name", b"\x1b[2J", "control character 27", q_name)
    poke("name_invalid_utf8", f"{q}: name", b"bl\xfe", "UTF-8", q_name + 2)

    def long_name(m):
        m.tensors["n" * 65] = (TYPE_F32, [1], bytes(4))
    rebuilt("name_too_long", "65 bytes, at most 64", long_name)
    for value in (0, 5, 2**31, 2**32 - 1):
        poke(f"rank_{value}", f"{q}: rank", value, f"{value} dimensions", "here")
    for i in (0, 1):
        poke(f"dim_{i}_is_0", f"{q}: dim {i}", 0, f"dimension {i} is 0", "here")
        poke(f"dim_{i}_is_2_64_less_1", f"{q}: dim {i}", 2**64 - 1, q)
        poke(f"dim_{i}_is_2_63", f"{q}: dim {i}", 2**63, q)
    poke("shape_wraps_to_0", f"{q}: dim 0", struct.pack("<QQ", 2**32, 2**32), "2^63 elements")
    poke("shape_wraps_to_small", f"{q}: dim 0", struct.pack("<QQ", 2**63 + 16, 2), "2^63 elements")
    poke("bytes_wrap", f"{same_length}: dim 0", struct.pack("<QQI", 2**61 + 32, 2, TYPE_F32), "2^63 bytes")
    poke("row_of_33", f"{q}: dim 0", 33, "row of 33 elements")
    poke("row_of_16", f"{q}: dim 0", 16, "blocks of 32")
    poke("rows_too_many", f"{q}: dim 1", 33, q)
    for value in (4, 5, 31, 36, 42, 1000, 2**31, 2**32 - 1):
        poke(f"tensor_type_{value}", f"{q}: type", value, f"type {value} ", "here", unsupported)
    poke("type_larger_than_its_room", f"{q}: type", TYPE_F32, "4096 bytes are needed", at[f"{q}: data"][0])
    poke("last_type_larger_than_the_file", "output.weight: type", TYPE_F32, "output.weight", at["output.weight: offset"][0])
    for value in (1, 16, 31):
        poke(f"offset_{value}", f"{q}: offset", value, f"offset {value} is not a multiple", "here")
    for value, label in ((2**63, "2_63"), (2**64 - 32, "2_64_less_32"), (size + -size % 32, "past_the_end")):
        poke(f"offset_{label}", f"{q}: offset", value, q, "here")
    own = struct.unpack_from("<Q", good, at[f"{q}: offset"][0])[0]
    poke("overlap_same_offset", f"{q}: offset", 0, "token_embd.weight")
    poke("overlap_by_a_block", f"{q}: offset", own + 32, q)
    poke("overlap_with_the_one_before", f"{q}: offset", own - 32, "attn_norm")

    # Cut files; the mutation test cuts at every byte.
    raw("cut_in_a_key", "after tokenizer.ggml.bos_token_id", good[:at["tokenizer.ggml.eos_token_id: key"][0] + 4], at["tokenizer.ggml.eos_token_id: key"][0])
    raw("cut_in_a_token", "tokenizer.ggml.tokens", good[:at["tokenizer.ggml.tokens: value 200"][0] + 2])
    raw("cut_in_the_directory", q, good[:at[f"{q}: type"][0]], at[f"{q}: type"][0])
    raw("cut_after_the_header", "token_embd.weight", good[:end])
    raw("cut_at_the_data", "token_embd.weight", good[:at["data"][0]])
    raw("cut_in_the_data", "file ends", good[:(at["data"][0] + size) // 2])
    last = sum(at["output.weight: data"])
    raw("cut_by_a_byte", "output.weight", good[:last - 1], at["output.weight: offset"][0])


def add_packed_rows(catalogue, model):
    corrupt, unsupported = "CORRUPT_FILE", "UNSUPPORTED"
    good = model.to_bytes(PACKED_ALIGNMENT)
    at, q = dict(model.at), "blk.0.attn_q.weight"

    def row(name, text, change, code=corrupt, alignment=PACKED_ALIGNMENT, level="container", at_field=None):
        changed = model.copy()
        change(changed)
        data = changed.to_bytes(alignment)
        catalogue.add(name, level, code, text, data, "-" if level == "model" else changed.at[at_field][0] if at_field else "*")

    def entry(key, kind, value):
        return lambda m: m.entries.__setitem__(key, (kind, value))

    def tensor(name, kind, dims):
        return lambda m: m.tensors.__setitem__(name, (kind, dims, m.tensors[name][2]))

    layout = f"{LAYOUT_KEY}: value"
    for value in (0, 2, 2**32 - 1):
        row(f"packed_layout_{value}", f"layout {value}; this build reads layout 1", entry(LAYOUT_KEY, U32, value), unsupported, at_field=layout)
    row("packed_layout_u64", "u32 is needed", entry(LAYOUT_KEY, U64, 1), at_field=layout)
    row("packed_layout_string", "u32 is needed", entry(LAYOUT_KEY, STRING, "1"))
    row("packed_layout_missing", f"the key {LAYOUT_KEY} is missing", lambda m: m.entries.pop(LAYOUT_KEY), at_field=f"{q}: type")
    for alignment in (32, 2048):
        row(f"packed_alignment_{alignment}", f"general.alignment is {alignment}; at least 4096", entry("general.alignment", U32, alignment),
            alignment=alignment, at_field=f"{q}: type")
    row("packed_alignment_missing", "general.alignment is 32; at least 4096", lambda m: m.entries.pop("general.alignment"), alignment=32)

    for kind in (4, 99, 2**31):
        row(f"packed_type_{kind}", f"type {PACKED + kind} ", tensor(q, PACKED + kind, [32, 32]), unsupported, at_field=f"{q}: type")
    row("packed_type_without_layout", "packed tensors of type I8", tensor(q, PACKED + TYPE_I8, [32, 32]), unsupported, at_field=f"{q}: type")
    for dims in ([32], [32, 32, 1, 1]):
        row(f"packed_rank_{len(dims)}", f"packed tensor of {len(dims)} dimensions", tensor(q, PACKED + TYPE_Q4_1, dims), at_field=f"{q}: type")
    row("packed_row_of_33", "row of 33 elements", tensor(q, PACKED + TYPE_Q4_1, [33, 32]), at_field=f"{q}: type")
    row("packed_rows_too_many", q, tensor(q, PACKED + TYPE_Q4_1, [32, 2**20]), at_field=f"{q}: offset")
    row("packed_matrices_too_many", q, tensor(q, PACKED + TYPE_Q4_1, [32, 32, 1000]), at_field=f"{q}: offset")
    row("packed_block_wraps", "row block has more than 2^63 bytes", tensor(q, PACKED + TYPE_Q4_1, [2**58, 16]), at_field=f"{q}: type")
    row("packed_bytes_wrap", "packed tensor has more than 2^63 bytes", tensor(q, PACKED + TYPE_F32, [2**40, 2**22]), at_field=f"{q}: type")
    row("packed_experts_wrap", "packed tensor has more than 2^63 bytes", tensor(q, PACKED + TYPE_F32, [1, 1, 2**62]), at_field=f"{q}: type")
    start = at[f"{q}: offset"][0]
    offset = struct.unpack_from("<Q", good, start)[0]
    for value in (offset + 32, offset + 2048):
        catalogue.add(f"packed_offset_{value - offset}", "container", corrupt, f"offset {value} is not a multiple of 4096",
                      good[:start] + struct.pack("<Q", value) + good[start + 8:], start)
    catalogue.add("packed_overlap", "container", corrupt, q, good[:start] + struct.pack("<Q", offset - 4096) + good[start + 8:])
    catalogue.add("packed_cut", "container", corrupt, "the file ends", good[:sum(at["token_embd.weight: data"]) - 1])

    # As a container it is right, as a model it is not.
    norm = "blk.0.attn_norm.weight"
    row("packed_norm", "only matrices that are multiplied are", tensor(norm, PACKED + TYPE_F32, [32, 1]), level="model")
    row("packed_rows_padded", "shape of blk.0.attn_k.weight", tensor("blk.0.attn_k.weight", PACKED + TYPE_Q4_1, [32, 15]), level="model")
    row("packed_rank_3", f"shape of {q}", tensor(q, PACKED + TYPE_Q4_1, [32, 16, 2]), level="model")


def add_model_rows(catalogue, valid, bpe, qwen2, qwen3, mixtral, qwen2moe, qwen3moe):
    corrupt, unsupported = "CORRUPT_FILE", "UNSUPPORTED"

    def row(name, text, change, code=corrupt, base=valid):
        model = base.copy()
        change(model)
        catalogue.add(name, "model", code, text, model.to_bytes(), "-")

    def setting(name, key, kind, value, text, code=corrupt, base=valid):
        row(name, text, lambda m: m.entries.__setitem__(key, (kind, value)), code, base)

    def without(name, key, base=valid, text=None):
        row(name, text or key, lambda m: m.entries.pop(key), corrupt, base)

    def listed(name, key, change, text=None, code=corrupt, base=valid):
        """An array after `change` of its list."""
        def apply(m):
            element, values = m.entries[key][1]
            values = list(values)
            values = change(values) or values
            m.entries[key] = (ARRAY, (element, values))
        row(name, text or key, apply, code, base)

    # The configuration.
    without("no_architecture", "general.architecture")
    setting("architecture_unknown", "general.architecture", STRING, "abacus", "abacus", unsupported)
    setting("architecture_a_number", "general.architecture", U32, 7, "general.architecture")
    for key, values in (("block_count", (0, 2, 2**32 - 1)), ("embedding_length", (0, 33, 64, 2**31)), ("feed_forward_length", (0, 32, 2**32 - 1)),
                        ("attention.head_count", (0, 3, 33, 2**32 - 1)), ("attention.head_count_kv", (0, 2, 3, 2**31)),
                        ("context_length", (0,)), ("rope.dimension_count", (15, 64))):
        # A number that is fine in itself and contradicts the tensors may be reported for one of them.
        related = {"block_count": "blk.", "embedding_length": "weight|llama.attention.head_count", "feed_forward_length": "ffn_", "attention.head_count": "attn_",
                   "attention.head_count_kv": "attn_"}.get(key)
        for value in values:
            setting(f"{key.replace('.', '_')}_{value}", f"llama.{key}", U32, value, f"llama.{key}" + (f"|{related}" if related else ""))
        setting(f"{key.replace('.', '_')}_a_string", f"llama.{key}", STRING, "many", f"llama.{key}")
    for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "attention.layer_norm_rms_epsilon"):
        without(f"no_{key.replace('.', '_')}", f"llama.{key}")
    setting("head_count_negative", "llama.attention.head_count", I32, -2, "llama.attention.head_count")
    for value, label in ((0.0, "0"), (-1e-5, "negative"), (NAN, "nan"), (INFINITY, "infinite")):
        setting(f"epsilon_{label}", "llama.attention.layer_norm_rms_epsilon", F32, value, "layer_norm_rms_epsilon")
        setting(f"rope_base_{label}", "llama.rope.freq_base", F32, value, "llama.rope.freq_base")
    setting("rope_scaling_unknown", "llama.rope.scaling.type", STRING, "spiral", "spiral", unsupported)

    # Mixtures of experts.
    def mixture(name, key, value, code=corrupt, base=mixtral, text=None):
        """`base` with one setting, or without it."""
        arch = base.entries["general.architecture"][1]
        kinds = {str: STRING, int: U32, float: F32, bool: BOOL}
        row(f"mixture_{name}", text or f"{arch}.{key}",
            lambda m: m.entries.pop(f"{arch}.{key}") if value is None else m.entries.__setitem__(f"{arch}.{key}", (kinds[type(value)], value)), code, base)
    mixture("of_experts_in_qwen2", "expert_count", 8, unsupported, qwen2, "in \"qwen2\"")
    for label, base in (("qwen2moe", qwen2moe), ("qwen3moe", qwen3moe)):
        mixture(f"{label}_of_0", "expert_count", 0, base=base)
        mixture(f"{label}_without_count", "expert_count", None, base=base)
    mixture("of_a_string", "expert_count", "many")
    mixture("of_4097", "expert_count", 4097, unsupported, text="at most 4096")
    mixture("of_2_32_less_1", "expert_count", 2**32 - 1, unsupported, text="at most 4096")
    mixture("used_missing", "expert_used_count", None)
    for value in (0, 5, 2**32 - 1):
        mixture(f"used_{value}", "expert_used_count", value)
    row("mixture_used_65", "at most 64", lambda m: m.entries.update(
        {"llama.expert_count": (U32, 128), "llama.expert_used_count": (U32, 65)}), unsupported, mixtral)
    for value in (0, 2**32 - 1):
        mixture(f"width_{value}", "expert_feed_forward_length", value)
        mixture(f"shared_width_{value}", "expert_shared_feed_forward_length", value, base=qwen2moe)
    mixture("shared_in_llama", "expert_shared_feed_forward_length", 64, unsupported)
    mixture("no_width", "feed_forward_length", None)
    row("mixture_no_width_of_the_shared", "qwen2moe.feed_forward_length",
        lambda m: [m.entries.pop(f"qwen2moe.{key}") for key in ("expert_shared_feed_forward_length", "feed_forward_length")], corrupt, qwen2moe)
    mixture("norm_a_number", "expert_weights_norm", 1)
    for label, value, code in (("2_5", 2.5, unsupported), ("negative", -1.0, unsupported), ("nan", NAN, unsupported), ("a_string", "one", corrupt)):
        mixture(f"scale_{label}", "expert_weights_scale", value, code)
    for key, value in (("expert_gating_func", 2), ("expert_shared_count", 1), ("expert_group_count", 8), ("expert_group_used_count", 4),
                       ("moe_every_n_layers", 2), ("interleave_moe_layer_step", 2), ("leading_dense_block_count", 1)):
        mixture(key, key, value, unsupported)
    mixture("two_shared", "expert_shared_count", 2, unsupported, qwen2moe)
    mixture("group_count_a_string", "expert_group_count", "8")

    # Its tensors, in the stacked form and in the one of 2023.
    def mixture_tensor(name, text, change, code=corrupt, base=mixtral):
        row(f"mixture_{name}", text, lambda m: change(m.tensors), code, base)
    router, up = "blk.0.ffn_gate_inp.weight", "blk.0.ffn_up_exps.weight"
    mixture_tensor("no_router", router, lambda t: t.pop(router))
    mixture_tensor("router_of_5", router, lambda t: t.update({router: (TYPE_F32, [32, 5], bytes(640))}))
    mixture_tensor("router_transposed", router, lambda t: t.update({router: (TYPE_F32, [4, 32], bytes(512))}))
    for label, dims in (("of_3", [32, 64, 3]), ("of_5", [32, 64, 5]), ("narrower", [32, 32, 4]), ("of_rank_2", [32, 256])):
        rows = dims[1] * (dims[2] if len(dims) > 2 else 1)
        mixture_tensor(f"stack_{label}", up, lambda t, dims=dims, rows=rows: t.update({up: (TYPE_Q4_1, dims, bytes(rows * 20))}))
    mixture_tensor("no_stack", "blk.0.ffn_up", lambda t: t.pop(up))
    mixture_tensor("dense_matrix_too", "blk.0.ffn_up.weight", lambda t: t.update({"blk.0.ffn_up.weight": (TYPE_Q4_1, [32, 64], bytes(1280))}), unsupported)
    mixture_tensor("shared_matrix_in_llama", "blk.0.ffn_up_shexp.weight", lambda t: t.update({"blk.0.ffn_up_shexp.weight": (TYPE_Q4_1, [32, 64], bytes(1280))}), unsupported)
    for part in ("gate_inp", "gate", "up", "down"):
        shared = f"blk.0.ffn_{part}_shexp.weight"
        mixture_tensor(f"no_{shared}", shared, lambda t, shared=shared: t.pop(shared), corrupt, qwen2moe)
    split = "blk.0.ffn_up.{}.weight"
    mixture_tensor("split_without_2", split.format(2), lambda t: t.pop(split.format(2)), corrupt, one_by_one(mixtral))
    mixture_tensor("split_of_5", split.format(4), lambda t: t.update({split.format(4): t[split.format(0)]}), unsupported, one_by_one(mixtral))
    mixture_tensor("split_narrower", split.format(1), lambda t: t.update({split.format(1): (TYPE_Q4_1, [32, 32], bytes(640))}), corrupt, one_by_one(mixtral))

    # The tensors.
    for name in ("token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_v.weight",
                 "blk.0.ffn_down.weight"):
        row(f"no_{name}", name, lambda m, name=name: m.tensors.pop(name))

    def tensor(name, label, kind, dims, size, code=corrupt):
        row(f"{name}_{label}", name, lambda m: m.tensors.__setitem__(name, (kind, dims, bytes(size))), code)
    tensor("blk.0.attn_q.weight", "twice_as_high", TYPE_Q4_1, [32, 64], 64 * 20)
    tensor("blk.0.attn_k.weight", "without_grouping", TYPE_Q4_1, [32, 32], 32 * 20)
    tensor("blk.0.ffn_down.weight", "transposed", TYPE_Q4_1, [32, 64], 64 * 20)
    tensor("blk.0.attn_norm.weight", "of_33", TYPE_F32, [33], 33 * 4)
    tensor("output_norm.weight", "a_matrix", TYPE_F32, [32, 2], 64 * 4)
    tensor("token_embd.weight", "of_rank_3", TYPE_Q4_1, [32, 300, 2], 600 * 20)
    tensor("token_embd.weight", "one_row_less", TYPE_Q4_1, [32, 299], 299 * 20)
    tensor("output.weight", "one_row_more", TYPE_Q4_1, [32, 301], 301 * 20)
    row("layer_beyond_the_count", "blk.1.", lambda m: m.tensors.__setitem__("blk.1.attn_q.weight", m.tensors["blk.0.attn_q.weight"]))
    row("tensor_unknown", "blk.0.mystery.weight", lambda m: m.tensors.__setitem__("blk.0.mystery.weight", (TYPE_F32, [32], bytes(128))), unsupported)

    # What sets the architectures apart.
    def vector(name, length, label, base, code=corrupt):
        row(f"{name}_{label}", name, lambda m: m.tensors.__setitem__(name, (TYPE_F32, [length], bytes(4 * length))), code, base)
    for base, names in ((qwen2, ("attn_q.bias", "attn_k.bias", "attn_v.bias")), (qwen3, ("attn_q_norm.weight", "attn_k_norm.weight"))):
        for name in names:
            row(f"no_{name}", f"blk.0.{name}", lambda m, name=name: m.tensors.pop(f"blk.0.{name}"), corrupt, base)
    vector("blk.0.attn_q.bias", 33, "of_33", qwen2)
    vector("blk.0.attn_k.bias", 32, "of_32", qwen2)
    vector("blk.0.attn_q_norm.weight", 32, "of_all_heads", qwen3)
    vector("blk.0.attn_k_norm.weight", 8, "of_half_a_head", qwen3)
    vector("blk.0.attn_output.bias", 32, "in_qwen2", qwen2, unsupported)
    vector("blk.0.ffn_up.bias", 64, "in_qwen3", qwen3, unsupported)
    vector("blk.0.attn_q_norm.weight", 16, "in_llama", valid, unsupported)
    vector("blk.0.attn_v.bias", 32, "as_long_as_q", valid)
    vector("blk.0.ffn_down.bias", 64, "as_long_as_ffn", valid)
    vector("blk.0.attn_norm.bias", 32, "in_llama", valid, unsupported)

    # RoPE and its scalings.
    def scaling(name, text, code=corrupt, **settings):
        kinds = {str: STRING, int: U32, float: F32}
        row(f"rope_{name}", text, lambda m: m.entries.update(
            {f"llama.rope.scaling.{key}": (kinds[type(value)], value) for key, value in settings.items()}), code)
    for kind in ("longrope", "su", "dynamic", "ntk"):
        scaling(kind, f'"{kind}"', unsupported, type=kind, factor=2.0)
    scaling("type_a_number", "rope.scaling.type", type=3)
    for value, label in ((0.0, "0"), (-4.0, "negative"), (NAN, "nan"), (INFINITY, "infinite"), ("four", "a_string")):
        scaling(f"linear_factor_{label}", "rope.scaling.factor", type="linear", factor=value)
        scaling(f"yarn_factor_{label}", "rope.scaling.factor", type="yarn", factor=value)
        scaling(f"llama3_factor_{label}", "rope.scaling.factor", type="llama3", factor=value)
        scaling(f"yarn_magnitude_{label}", "rope.scaling.yarn_attn_factor", type="yarn", factor=4.0, yarn_attn_factor=value)
        scaling(f"magnitude_{label}", "rope.scaling.attn_factor", attn_factor=value)
        setting(f"rope_old_factor_{label}", "llama.rope.scale_linear", STRING if isinstance(value, str) else F32, value, "llama.rope.scale_linear")
    scaling("factor_nan_without_type", "rope.scaling.factor", factor=NAN)
    scaling("magnitude_huge", "rope.scaling.attn_factor", attn_factor=3e38)
    scaling("yarn_without_factor", "rope.scaling.factor", type="yarn")
    scaling("yarn_original_0", "rope.scaling.original_context_length", type="yarn", factor=4.0, original_context_length=0)
    scaling("yarn_beta_nan", "rope.scaling.yarn_beta_fast", type="yarn", factor=4.0, yarn_beta_fast=NAN)
    scaling("yarn_beta_0", "rope.scaling.yarn_beta_slow", type="yarn", factor=4.0, yarn_beta_slow=0.0)
    scaling("yarn_backwards", "run backwards", type="yarn", factor=4.0, yarn_beta_fast=0.001)
    scaling("yarn_half_extrapolated", "rope.scaling.yarn_ext_factor", unsupported, type="yarn", factor=4.0, yarn_ext_factor=0.5)
    scaling("yarn_log_multiplier", "rope.scaling.yarn_log_multiplier", unsupported, type="yarn", factor=4.0, yarn_log_multiplier=0.1)
    scaling("alpha", "rope.scaling.alpha", unsupported, alpha=2.0)
    llama3 = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context_length": 32}
    for key in ("factor", "low_freq_factor", "high_freq_factor", "original_context_length"):
        scaling(f"llama3_without_{key}", f"rope.scaling.{key}", **{k: v for k, v in llama3.items() if k != key})
    scaling("llama3_high_is_low", "rope.scaling.high_freq_factor", **{**llama3, "high_freq_factor": 1.0})
    scaling("llama3_low_nan", "rope.scaling.low_freq_factor", **{**llama3, "low_freq_factor": NAN})
    scaling("llama3_original_2_31", "rope.scaling.original_context_length", **{**llama3, "original_context_length": 2**31})

    def yarn_of_base_1(m):
        m.entries.update({"llama.rope.scaling.type": (STRING, "yarn"), "llama.rope.scaling.factor": (F32, 4.0), "llama.rope.freq_base": (F32, 1.0)})
    row("rope_yarn_base_1", "llama.rope.freq_base", yarn_of_base_1)
    setting("rope_halves_a_number", "llama.rope.halves", U32, 1, "llama.rope.halves")
    setting("sliding_window_a_string", "llama.attention.sliding_window", STRING, "wide", "llama.attention.sliding_window")
    setting("sliding_window_negative", "llama.attention.sliding_window", I32, -1, "llama.attention.sliding_window")
    vector("rope_freqs.weight", 16, "as_long_as_a_head", valid)

    def factors_and_yarn(m):
        m.tensors["rope_freqs.weight"] = (TYPE_F32, [8], struct.pack("<8f", *[1.0] * 8))
        m.entries.update({"llama.rope.scaling.type": (STRING, "yarn"), "llama.rope.scaling.factor": (F32, 4.0)})
    row("rope_factors_and_yarn", "rope_freqs.weight", factors_and_yarn, unsupported)

    # The vocabulary.
    without("no_tokenizer", "tokenizer.ggml.model")
    setting("tokenizer_unknown", "tokenizer.ggml.model", STRING, "runes", "runes", unsupported)
    tokens, scores, types, merges = (f"tokenizer.ggml.{x}" for x in ("tokens", "scores", "token_type", "merges"))
    for label, base in (("", valid), ("_bpe", bpe)):
        without(f"no_tokens{label}", tokens, base)
        setting(f"tokens_are_numbers{label}", tokens, ARRAY, (U32, list(range(300))), tokens, base=base)
        setting(f"tokens_are_none{label}", tokens, ARRAY, (STRING, []), "tokens|token_embd", base=base)
        setting(f"tokens_are_one_string{label}", tokens, STRING, "a b c", tokens, base=base)
        listed(f"types_one_short{label}", types, lambda v: v[:-1], base=base)
        listed(f"types_one_long{label}", types, lambda v: v + [1], base=base)
        listed(f"type_99{label}", types, lambda v: v[:5] + [99] + v[6:], base=base)
        listed(f"type_negative{label}", types, lambda v: v[:5] + [-1] + v[6:], base=base)
        listed(f"token_twice{label}", tokens, lambda v: v[:-5] + [v[-6]] + v[-4:], tokens, base=base)
        listed(f"tokens_one_short{label}", tokens, lambda v: v[:-1], "tokenizer.ggml.|token_embd", base=base)
        for key in ("bos", "eos", "unknown", "padding"):
            setting(f"{key}_300{label}", f"tokenizer.ggml.{key}_token_id", U32, 300, f"tokenizer.ggml.{key}_token_id", base=base)
        setting(f"bos_2_31{label}", "tokenizer.ggml.bos_token_id", U32, 2**31, "tokenizer.ggml.bos_token_id", base=base)
        setting(f"eos_a_string{label}", "tokenizer.ggml.eos_token_id", STRING, "</s>", "tokenizer.ggml.eos_token_id", base=base)
        setting(f"add_bos_a_number{label}", "tokenizer.ggml.add_bos_token", U32, 1, "tokenizer.ggml.add_bos_token", base=base)
    without("no_scores", scores)
    listed("scores_one_short", scores, lambda v: v[:-1])
    listed("scores_one_long", scores, lambda v: v + [0.0])
    listed("score_nan", scores, lambda v: v[:270] + [NAN] + v[271:])
    setting("scores_are_strings", scores, ARRAY, (STRING, ["0"] * 300), scores)
    for label, token in (("negative", "<0x-1>"), ("not_hex", "<0xGG>"), ("too_large", "<0x100>"), ("one_digit", "<0x7>"), ("spaced", "<0x 7>"),
                         ("empty", "<0x>")):
        listed(f"byte_token_{label}", tokens, lambda v, token=token: v[:10] + [token] + v[11:], token)
    listed("byte_token_twice", tokens, lambda v: v[:10] + [v[11]] + v[11:], "<0x08>|tokenizer.ggml.tokens")
    without("no_merges", merges, bpe)
    for label, merge in (("without_space", "abc"), ("of_unknown_tokens", "zzz qqq"), ("with_unknown_result", "q z"), ("empty", ""), ("of_half", "a ")):
        listed(f"merge_{label}", merges, lambda v, merge=merge: v[:3] + [merge] + v[4:], merges, base=bpe)
    setting("merges_are_numbers", merges, ARRAY, (I32, [1, 2, 3]), merges, base=bpe)
    setting("pre_tokenizer_unknown", "tokenizer.ggml.pre", STRING, "martian", "martian", unsupported, bpe)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    valid, bpe = sentencepiece_model(), bpe_model()
    qwen2 = as_architecture(bpe, "qwen2", {"attn_q.bias": 32, "attn_k.bias": 16, "attn_v.bias": 16})
    qwen3 = as_architecture(bpe, "qwen3", {"attn_q_norm.weight": 16, "attn_k_norm.weight": 16})
    mixtures = {"mixtral": as_mixture(valid), "qwen2moe": as_mixture(as_architecture(qwen2, "qwen2moe", {}), shared=32),
                "qwen3moe": as_mixture(as_architecture(qwen3, "qwen3moe", {}))}
    valid_ones = {"valid": valid, "valid_bpe": bpe, "valid_qwen2": qwen2, "valid_qwen3": qwen3, **{f"valid_{name}": model for name, model in mixtures.items()},
                  "valid_mixtral_split": one_by_one(mixtures["mixtral"])}
    for name, model in valid_ones.items():
        (folder / f"{name}.gguf").write_bytes(model.to_bytes())
    packed = packed_model(valid)
    (folder / "valid_packed.gguf").write_bytes(packed.to_bytes(PACKED_ALIGNMENT))
    header_end = valid.at["end"][0]
    fields = [f"{offset}\t{length}\t{field}" for field, (offset, length) in valid.at.items()
              if length in (4, 8) and offset < header_end and not field.endswith(": key") and not field.endswith(": name")]
    (folder / "fields.tsv").write_text("\n".join(fields) + "\n", encoding="utf-8")

    catalogue = Catalogue(folder)
    add_container_rows(catalogue, valid)
    add_packed_rows(catalogue, packed)
    add_model_rows(catalogue, valid, bpe, qwen2, qwen3, *mixtures.values())
    catalogue.write()
    levels = [row[1] for row in catalogue.rows]
    print(f"{len(levels)} malformed files: {levels.count('container')} containers, {levels.count('model')} models")


if __name__ == "__main__":
    main()
