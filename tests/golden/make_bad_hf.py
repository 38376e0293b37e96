#!/usr/bin/env python3
"""Writes valid tiny Hugging Face directories and the catalogue of malformed ones derived from them, into the folder given.

    make_bad_hf.py FOLDER

valid          a llama of one layer in float32, one safetensors file: width 32, 2 heads, 1 KV head, 300 tokens (byte-level BPE)
valid_shards   the same in bfloat16 in two files with an index, and a tokenizer with byte fallback
valid_larger   the same as valid_shards with six layers and wider, so that it does not pay to keep it all in memory
valid_mixtral, valid_qwen2_moe, valid_qwen3_moe  the same as valid with 4 experts, 2 used
catalogue.tsv  one malformed directory a line, as make_bad_gguf.py writes it: directory, level, status code, text, offset.
               level is "hf"; the text is looked for in the whole error, which names file and member.

Needs nothing but Python 3.
"""
import copy
import json
import os
import pathlib
import shutil
import struct
import sys

from make_bad_gguf import Random, byte_characters

CORRUPT, UNSUPPORTED, NOT_FOUND, IO = "CORRUPT_FILE", "UNSUPPORTED", "NOT_FOUND", "IO"
WIDTH, FFN, KV, TOKENS = 32, 64, 16, 300
MARK = "\u2581"


def config():
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
            "vocab_size": TOKENS, "tie_word_embeddings": False, "hidden_act": "silu", "bos_token_id": 298, "eos_token_id": 298}


def shapes(layers=1, width=WIDTH, kv=KV, ffn=FFN):
    wanted = {"model.embed_tokens.weight": [TOKENS, width], "lm_head.weight": [TOKENS, width], "model.norm.weight": [width]}
    for i in range(layers):
        layer = f"model.layers.{i}."
        wanted.update({
            layer + "input_layernorm.weight": [width], layer + "post_attention_layernorm.weight": [width],
            layer + "self_attn.q_proj.weight": [width, width], layer + "self_attn.k_proj.weight": [kv, width],
            layer + "self_attn.v_proj.weight": [kv, width], layer + "self_attn.o_proj.weight": [width, width],
            layer + "mlp.gate_proj.weight": [ffn, width], layer + "mlp.up_proj.weight": [ffn, width], layer + "mlp.down_proj.weight": [width, ffn]})
    return wanted


class Tensors:
    """A safetensors file as a list: entries by name, and their bytes in order."""

    def __init__(self, wanted, bf16=False):
        random, position = Random(7), 0
        self.entries, parts = {}, []
        for name, shape in wanted.items():
            values = [(0.5 if len(shape) == 1 else -0.2) + random.next(1000) / (1000 if len(shape) == 1 else 2500) for _ in range(numbers(shape))]
            data = struct.pack(f"<{len(values)}f", *values)
            if bf16:
                data = b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4))
            self.entries[name] = {"dtype": "BF16" if bf16 else "F32", "shape": shape, "data_offsets": [position, position + len(data)]}
            position += len(data)
            parts.append(data)
        self.data = b"".join(parts)

    def header(self):
        return json.dumps(self.entries, separators=(",", ":")).encode()

    def to_bytes(self, header=None):
        header = self.header() if header is None else header
        return struct.pack("<Q", len(header)) + header + self.data


def numbers(shape):
    count = 1
    for size in shape:
        count *= size
    return count


MERGES = [["\u0120", "t"], ["h", "e"], ["\u0120t", "he"], ["i", "n"], ["e", "r"], ["a", "n"], ["o", "r"], ["r", "e"]]


def bpe_tokenizer():
    pieces = list(byte_characters().values()) + ["".join(pair) for pair in MERGES]
    added = {"id": 298, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"version": "1.0", "added_tokens": [added], "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
            "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": {piece: i for i, piece in enumerate(pieces)},
                      "merges": [" ".join(pair) for pair in MERGES]}}


def sentencepiece_tokenizer():
    merges = [[MARK, "t"], ["h", "e"], [MARK + "t", "he"], ["i", "n"]]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + [MARK] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces += ["".join(pair) for pair in merges]
    added = [{"id": i, "content": pieces[i], "special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False} for i in range(3)]
    return {"version": "1.0", "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK},
                                                               {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]},
            "pre_tokenizer": None,
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                               "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                      "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges}}


EXPERTS, EXPERT_FFN, SHARED_FFN = 4, 24, 48
QWEN2_MOE, QWEN3_MOE, MIXTRAL = "qwen2_moe", "qwen3_moe", "mixtral"
CLASSES = {QWEN2_MOE: "Qwen2MoeForCausalLM", QWEN3_MOE: "Qwen3MoeForCausalLM", MIXTRAL: "MixtralForCausalLM"}


def mixture_config(kind):
    more = {"architectures": [CLASSES[kind]], "model_type": kind, "num_experts_per_tok": 2}
    if kind == MIXTRAL:
        return {**config(), **more, "num_local_experts": EXPERTS, "sliding_window": None}
    more.update(num_experts=EXPERTS, moe_intermediate_size=EXPERT_FFN, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])
    return {**config(), **more, **({"shared_expert_intermediate_size": SHARED_FFN, "sliding_window": 0} if kind == QWEN2_MOE else {"head_dim": 16})}


def mixture_names(kind):
    """What the names of a layer's experts begin with, and the three matrices of one: gate, up, down."""
    return ("model.layers.0.block_sparse_moe.", ("w1", "w3", "w2")) if kind == MIXTRAL else ("model.layers.0.mlp.", ("gate_proj", "up_proj", "down_proj"))


def mixture_shapes(kind):
    """The tensors of a mixture of one layer."""
    wanted = {name: shape for name, shape in shapes().items() if ".mlp." not in name}
    block, parts = mixture_names(kind)

    def add_expert(prefix, ffn):
        for part in parts:
            wanted[f"{block}{prefix}.{part}.weight"] = [WIDTH, ffn] if part == parts[2] else [ffn, WIDTH]

    wanted[block + "gate.weight"] = [EXPERTS, WIDTH]
    for expert in range(EXPERTS):
        add_expert(f"experts.{expert}", FFN if kind == MIXTRAL else EXPERT_FFN)
    if kind == QWEN2_MOE:
        add_expert("shared_expert", SHARED_FFN)
        wanted[block + "shared_expert_gate.weight"] = [1, WIDTH]
        wanted.update({f"model.layers.0.self_attn.{part}_proj.bias": [rows] for part, rows in (("q", WIDTH), ("k", KV), ("v", KV))})
    if kind == QWEN3_MOE:
        wanted.update({f"model.layers.0.self_attn.{part}_norm.weight": [16] for part in "qk"})
    return wanted


class Folder:
    """A directory as its files: name -> JSON value or bytes."""

    def __init__(self, files):
        self.files = files

    def copy(self):
        return Folder(copy.deepcopy(self.files))

    def write(self, path):
        path.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            if callable(content):
                content(path / name)
            else:
                (path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode())


def valid():
    return Folder({"config.json": config(), "model.safetensors": Tensors(shapes()).to_bytes(), "tokenizer.json": bpe_tokenizer(),
                   "tokenizer_config.json": {"eos_token": "<|endoftext|>", "bos_token": None, "unk_token": {"content": "<|endoftext|>"}},
                   "generation_config.json": {"do_sample": True, "eos_token_id": [298, 0]}})


def valid_mixture(kind, wanted=None):
    files = valid()
    files.files.update({"config.json": mixture_config(kind), "model.safetensors": Tensors(wanted or mixture_shapes(kind)).to_bytes()})
    return files


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def valid_shards(layers=1, width=WIDTH, kv=KV, ffn=FFN):
    wanted = shapes(layers, width, kv, ffn)
    names = list(wanted)
    halves = [{name: wanted[name] for name in part} for part in (names[:5], names[5:])]
    index = {"metadata": {"total_size": 1}, "weight_map": {name: FIRST if name in halves[0] else SECOND for name in names}}
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": ffn}
    return Folder({"config.json": {**config(), **sizes, "bos_token_id": 1, "eos_token_id": 2}, FIRST: Tensors(halves[0], True).to_bytes(),
                   SECOND: Tensors(halves[1], True).to_bytes(), "model.safetensors.index.json": index, "tokenizer.json": sentencepiece_tokenizer(),
                   "tokenizer_config.json": {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}})


class Catalogue:
    def __init__(self, folder):
        self.folder, self.rows = folder, []

    def add(self, name, code, text, files, offset="*"):
        assert name not in {row[0] for row in self.rows}, name
        files.write(self.folder / name)
        self.rows.append((name, "hf", code, text, str(offset)))

    def write(self):
        (self.folder / "catalogue.tsv").write_text("".join("\t".join(row) + "\n" for row in self.rows), encoding="utf-8")


def add_safetensors_rows(catalogue):
    good = Tensors(shapes())
    norm, q = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"

    def raw(name, text, data, offset="*", code=CORRUPT):
        files = valid()
        files.files["model.safetensors"] = data
        catalogue.add(f"st_{name}", code, text, files, offset)

    def changed(name, text, change, offset="*", code=CORRUPT):
        tensors = Tensors(shapes())
        change(tensors)
        raw(name, text, tensors.to_bytes(), offset, code)

    def entry(name, text, member, value, code=CORRUPT, tensor=norm):
        def change(tensors):
            if value is None:
                del tensors.entries[tensor][member]
            else:
                tensors.entries[tensor][member] = value
        changed(name, text, change, code=code)

    whole = good.to_bytes()
    raw("empty", "8 bytes needed, 0 are there", b"", 0)
    raw("seven_bytes", "8 bytes needed, 7 are there", whole[:7], 0)
    raw("length_only", "a header of 5 bytes is announced, but 0 bytes remain", struct.pack("<Q", 5), 0)
    for value, label in ((2**63, "2_63"), (2**64 - 1, "2_64_less_1"), (2**31, "2_31"), (len(whole) - 7, "one_beyond_the_end")):
        raw(f"length_{label}", f"a header of {value} bytes is announced", struct.pack("<Q", value) + whole[8:], 0)
    for value in (0, 1):
        raw(f"length_{value}", f"a header of {value} bytes is announced; the smallest", struct.pack("<Q", value) + whole[8:], 0)
    raw("length_one_less", "not valid JSON|belong to no tensor", struct.pack("<Q", len(good.header()) - 1) + whole[8:])
    raw("gguf", "announced", b"GGUF" + bytes(60), 0)
    raw("zip", "announced", b"PK\x03\x04" + bytes(60) + b"\xff" * 8, 0)

    def sparse(path):
        with open(path, "wb") as out:
            out.write(struct.pack("<Q", 100_000_001))
            out.truncate(100_000_100)
    raw("header_beyond_the_limit", "the limit is 95.4 MiB", sparse, 0, UNSUPPORTED)

    for label, header, text in (("array", b"[]", "not with '{'"), ("space", b" {}", "not with '{'"), ("nothing", b"{ ", "the text ends"),
                                ("more_behind", b"{}{}", "the end of the text"), ("comma", b'{"a":{},}', "a key in quotes"),
                                ("comment", b"{/**/}", "a key in quotes"), ("single_quotes", b"{'a':{}}", "a key in quotes"),
                                ("deep", b'{"__metadata__":' + b"[" * 100000 + b"]" * 100000 + b"}", "nested more than 32 deep"),
                                ("utf8", b'{"\xff":{}}', "UTF-8"), ("nul", b'{"a\x00":{}}', "control character 0"),
                                ("metadata_array", b'{"__metadata__":[]}', "__metadata__: got []"),
                                ("metadata_number", b'{"__metadata__":{"a":1}}', "__metadata__: got 1"),
                                ("empty_name", b'{"":{}}', "name is empty"), ("control_name", b'{"a\\n":{}}', "control character 10"),
                                ("long_name", b'{"' + b"n" * 513 + b'":{}}', "513 bytes, at most 512"),
                                ("entry_array", b'{"a":[]}', "an object with dtype"), ("entry_null", b'{"a":null}', "an object with dtype"),
                                ("no_tensors", b"{}", "belong to no tensor")):
        raw(f"header_{label}", text, good.to_bytes(header))
    once = good.header()
    raw("tensor_twice", "appears twice", good.to_bytes(once[:-1] + b',"lm_head.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'))
    raw("tensor_twice_escaped", "appears twice", good.to_bytes(once[:-1] + b',"lm\\u005fhead.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'))
    raw("dtype_twice", "\"dtype\" appears twice", good.to_bytes(once.replace(b'"dtype":', b'"dtype":"F16","dtype":', 1)))

    entry("dtype_missing", "dtype is missing", "dtype", None)
    entry("dtype_number", "a string as dtype", "dtype", 1)
    entry("dtype_unknown", "dtype \"F7\" is unknown", "dtype", "F7", UNSUPPORTED)
    entry("dtype_of_other_size", "data_offsets give 128 bytes", "dtype", "F16")
    entry("dtype_of_fewer_bits", "data_offsets give 128 bytes", "dtype", "F6_E2M3")
    entry("dtype_without_kernel", "weights of dtype I32 cannot be run", "dtype", "I32", UNSUPPORTED)
    entry("dtype_u32", "weights of dtype U32 cannot be run", "dtype", "U32", UNSUPPORTED)
    entry("shape_missing", "sizes as shape", "shape", None)
    entry("shape_text", "sizes as shape", "shape", "32")
    for label, value in (("negative", [-32]), ("fraction", [32.0]), ("text", ["32"]), ("nested", [[32]]), ("2_64", [2**64])):
        entry(f"size_{label}", "a whole number as size", "shape", value)
    entry("rank_5", "more than 4 dimensions", "shape", [32, 1, 1, 1, 1], UNSUPPORTED)
    entry("size_product_wraps", "more than 2^63 bits", "shape", [2**32, 2**32, 2**32, 2**32])
    entry("size_wraps_to_right_one", "more than 2^63 bits", "shape", [2**59 + 32])
    entry("size_one_more", "shape and dtype need 1056 bits", "shape", [33])
    entry("offsets_missing", "data_offsets", "data_offsets", None)
    for label, value in (("one", [0]), ("three", [0, 1, 2]), ("text", ["0", "1"]), ("negative", [-1, 1]), ("object", {})):
        entry(f"offsets_{label}", "data_offsets", "data_offsets", value)
    begin, end = good.entries[norm]["data_offsets"]
    entry("offsets_reversed", "are claimed", "data_offsets", [end, begin])
    entry("offsets_beyond_the_end", "are claimed", "data_offsets", [len(good.data), len(good.data) + 128])
    entry("offsets_2_64_less_1", "are claimed", "data_offsets", [2**64 - 129, 2**64 - 1])
    entry("overlap", "before model.embed_tokens.weight ends|before lm_head.weight ends", "data_offsets", [begin - 128, end - 128])
    entry("hole", "belong to no tensor|before", "data_offsets", [begin + 128, end + 128])
    raw("bytes_behind", "4 bytes after", whole + bytes(4))
    raw("cut_in_data", "are claimed", whole[:-4])

    def drop(name):
        """Without the tensor, the bytes of the others moved up."""
        tensors = Tensors({n: s for n, s in shapes().items() if n != name})
        return tensors.to_bytes()
    raw("without_q", "tensor blk.0.attn_q.weight is missing", drop(q), 0)
    raw("without_norm", "tensor output_norm.weight is missing", drop(norm), 0)
    raw("without_head", "lm_head.weight is in none of the files, though tie_word_embeddings", drop("lm_head.weight"), 0)
    raw("without_embedding", "model.embed_tokens.weight is in none of the files", drop("model.embed_tokens.weight"), 0)

    def with_shape(name, shape, bf16=False):
        return Tensors({**shapes(), name: shape}, bf16).to_bytes()
    raw("q_of_other_shape", "model.layers.0.self_attn.q_proj.weight", with_shape(q, [WIDTH, 2 * WIDTH]), 0)
    raw("norm_of_rank_2", "shape of output_norm.weight", with_shape(norm, [WIDTH, 1]), 0)
    raw("norm_empty", "has no elements", with_shape(norm, [0]))
    raw("embedding_of_other_rows", "need 300 rows: the vocab_size of config.json", with_shape("model.embed_tokens.weight", [301, WIDTH]))
    raw("embedding_of_rank_1", "need 300 rows", with_shape("model.embed_tokens.weight", [WIDTH * TOKENS]))
    raw("extra_tensor", "tensor model.layers.0.surprise.weight has no place", with_shape("model.layers.0.surprise.weight", [4]), "*", UNSUPPORTED)
    raw("layer_with_leading_zero", "has no place", with_shape("model.layers.00.input_layernorm.weight", [WIDTH]), "*", UNSUPPORTED)
    raw("extra_layer", "layer 1", with_shape("model.layers.1.input_layernorm.weight", [WIDTH]), 0)
    raw("bias_unannounced", "attention_bias does not announce it", with_shape("model.layers.0.self_attn.q_proj.bias", [WIDTH]), 0)


def add_index_rows(catalogue):
    index, moved = "model.safetensors.index.json", "model.norm.weight"

    def row(name, text, change, offset="*", code=CORRUPT):
        files = valid_shards()
        change(files.files)
        catalogue.add(f"index_{name}", code, text, files, offset)

    def raw(name, text, content, offset="*", code=CORRUPT):
        row(name, text, lambda files: files.update({index: content}), offset, code)

    def placed(name, text, file, offset="*", code=CORRUPT):
        row(name, text, lambda files: files[index]["weight_map"].update({moved: file}), offset, code)

    raw("empty", "the text ends", b"", 0)
    raw("cut", "the text ends", b'{"weight_map":{"a":"b"')
    raw("array", "an object", b"[]", 0)
    raw("nan", "a value", b'{"metadata":{"total_size":NaN},"weight_map":{}}')
    raw("without_map", "weight_map: got", {"metadata": {}}, 0)
    raw("map_array", "weight_map: got []", {"weight_map": []})
    raw("map_empty", "no tensor is listed", {"weight_map": {}})
    raw("tensor_twice", "appears twice", b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}')
    raw("deep", "nested more than", b'{"weight_map":' + b'{"a":' * 1000 + b"1" + b"}" * 1001)
    placed("file_number", "a file's name", 1)
    for label, file in (("parent", "../model.safetensors"), ("absolute", "/etc/passwd"), ("below", "sub/model.safetensors"), ("dot", "."), ("dots", ".."),
                        ("nothing", ""), ("nul", "model\0.safetensors"), ("backslash", "..\\model.safetensors"), ("newline", "a\nb"), ("long", "n" * 256)):
        placed(f"file_{label}", "the plain name of a file", file)

    def second_is(file):
        def change(files):
            files[index]["weight_map"] = {tensor: file if place == SECOND else place for tensor, place in files[index]["weight_map"].items()}
        return change
    row("file_absent", "No such file", second_is("absent.safetensors"), 0, NOT_FOUND)
    row("file_is_no_safetensors", "config.json", second_is("config.json"), 0)
    placed("tensor_in_other_file", f"{moved}", SECOND)
    row("tensor_in_no_file", "the tensor is not in", lambda files: files[index]["weight_map"].update({"surprise": FIRST}))
    row("tensor_unlisted", "does not list this tensor", lambda files: files[index]["weight_map"].pop(moved))

    def both(files):
        files[SECOND] = Tensors({**{n: s for n, s in shapes().items() if files[index]["weight_map"][n] == SECOND}, moved: [WIDTH]}, True).to_bytes()
    row("tensor_in_two_files", "does not list this tensor", both)

    def one_of_three(files):
        files["model-00002-of-00003.safetensors"] = files.pop(SECOND)
        files[index]["weight_map"] = {n: f if f == FIRST else "model-00002-of-00003.safetensors" for n, f in files[index]["weight_map"].items()}
    row("one_of_three_files", "is one of 3 files by its name|is one of 2 files", one_of_three)

    def many(files):
        files[index]["weight_map"].update({f"t{i}": f"f{i}.safetensors" for i in range(1100)})
    row("too_many_files", "more than 1024 files", many, "*", UNSUPPORTED)

    def link(target):
        def change(files):
            files[SECOND] = lambda path: (path.unlink(missing_ok=True), os.symlink(target, path))
        return change
    row("link_out", "leads out of the model's directory", link("../valid/model.safetensors"), 0)
    row("link_absolute", "leads out of the model's directory", link("/etc/hostname"), 0)
    row("link_nowhere", "leads nowhere", link("absent"), 0, NOT_FOUND)
    row("link_to_itself", "leads nowhere", link(SECOND), 0, NOT_FOUND)
    row("file_is_directory", "is a directory", lambda files: files.update({SECOND: lambda path: path.mkdir(exist_ok=True)}), 0, IO)
    row("file_is_fifo", "is a FIFO", lambda files: files.update({SECOND: lambda path: path.exists() or os.mkfifo(path)}), 0, IO)
    row("missing", "neither model.safetensors nor", lambda files: files.pop(index), 0, NOT_FOUND)
    row("pickled", "the weights are pickled", lambda files: (files.pop(index), files.update({"pytorch_model.bin": b"\x80\x02"})), 0, UNSUPPORTED)


def add_config_rows(catalogue):
    def row(name, text, change, offset="*", code=CORRUPT):
        files = valid()
        change(files.files)
        catalogue.add(f"config_{name}", code, text, files, offset)

    def raw(name, text, content, offset="*", code=CORRUPT):
        row(name, text, lambda files: files.update({"config.json": content}), offset, code)

    def setting(name, text, code=CORRUPT, **changes):
        row(name, text, lambda files: files["config.json"].update(changes), code=code)

    def without(*keys):
        def change(files):
            for key in keys:
                del files["config.json"][key]
        return change

    row("missing", "without config.json", lambda files: files.pop("config.json"), 0, IO)
    raw("empty", "the text ends", b"", 0)
    raw("array", "an object", b"[]", 0)
    raw("cut", "the text ends", b'{"model_type":"llama"')
    raw("utf16", "0xff", b"\xff\xfe{\x00}\x00", 0)
    raw("bom", "0xef", b"\xef\xbb\xbf{}", 0)
    raw("nan", "a value", b'{"rms_norm_eps": NaN}')
    raw("key_twice", "\"hidden_size\" appears twice", b'{"hidden_size":32,"hidden_size":64}')
    raw("deep", "nested more than", b'{"a":' + b"[" * 10000 + b"]" * 10000 + b"}")
    raw("brackets", "nested more than", b"[" * 1000000, 32)
    raw("nothing_in_it", "model_type is missing", {}, 0)
    row("directory", "is a directory", lambda files: files.update({"config.json": lambda path: path.mkdir(exist_ok=True)}), 0, IO)
    row("link_out", "leads out of the model's directory",
        lambda files: files.update({"config.json": lambda path: (path.unlink(missing_ok=True), os.symlink("/etc/hostname", path))}), 0)
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size", "rms_norm_eps"):
        row(f"without_{key}", f"{key} is missing", without(key), 0)
        for label, value in (("0", 0), ("negative", -1), ("text", "32"), ("2_64", 2**64), ("list", [32])):
            setting(f"{key}_{label}", f"{key}: got ", **{key: value})
    setting("layers_fraction", "num_hidden_layers: got 1.5", num_hidden_layers=1.5)
    setting("layers_4097", "num_hidden_layers: got 4097, need a whole number from 1 to 4096", num_hidden_layers=4097)
    setting("layers_more_than_there_are", "tensor blk.1.attn_norm.weight is missing", code=CORRUPT, num_hidden_layers=2)
    catalogue.rows[-1] = (*catalogue.rows[-1][:4], "0")
    setting("heads_not_dividing", "num_attention_heads: got 3, need a divisor of hidden_size, 32", num_attention_heads=3, num_key_value_heads=3)
    setting("kv_heads_not_dividing", "num_key_value_heads: got 2, need a divisor of 3 heads", num_attention_heads=3, num_key_value_heads=2, head_dim=16)
    setting("kv_heads_0", "num_key_value_heads: got 0", num_key_value_heads=0)
    setting("head_dim_odd", "head_dim: got 15, need an even number", head_dim=15)
    setting("head_dim_text", "head_dim: got", head_dim="16")
    setting("epsilon_too_small", "rms_norm_eps: got 1e-60", rms_norm_eps=1e-60)
    row("epsilon_huge", "rms_norm_eps: got 1e999", lambda files: files.update({"config.json": json.dumps(config()).replace("1e-05", "1e999").encode()}))
    setting("vocabulary_of_others", "need 301 rows", vocab_size=301)
    for value in (0, -1.0, "10000"):
        setting(f"theta_{value}", "rope_theta: got", rope_theta=value)
    setting("scaling_text", "rope_scaling: got", rope_scaling="linear")
    setting("scaling_type_number", "rope_scaling.rope_type: got 1", rope_scaling={"rope_type": 1})
    setting("linear_without_factor", "rope_scaling.factor is missing", rope_scaling={"rope_type": "linear"})
    for value in (0, -2.0, "2"):
        setting(f"linear_factor_{value}", "rope_scaling.factor: got", rope_scaling={"type": "linear", "factor": value})
    for key in ("factor", "low_freq_factor", "high_freq_factor"):
        scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
        setting(f"llama3_{key}_0", f"rope_scaling.{key}: got 0", rope_scaling={**scaling, key: 0})
        del scaling[key]
        setting(f"llama3_without_{key}", f"rope_scaling.{key} is missing", rope_scaling=scaling)
    setting("llama3_low_above_high", "more than low_freq_factor", rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0})
    setting("llama3_original_0", "original_max_position_embeddings: got 0",
            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 0})
    setting("yarn_factor_0", "rope_parameters.factor: got 0", rope_parameters={"rope_type": "yarn", "factor": 0, "rope_theta": 1e4})
    setting("yarn_beta", "more than beta_slow", rope_parameters={"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 1.0})
    setting("yarn_not_truncated", "without truncation", UNSUPPORTED, rope_parameters={"rope_type": "yarn", "factor": 2.0, "truncate": False})
    setting("rope_said_twice", "contradict each other", rope_scaling={"type": "linear", "factor": 2.0}, rope_parameters={"rope_type": "linear", "factor": 4.0})
    setting("rope_dynamic", "RoPE scaling \"dynamic\" is not computed", UNSUPPORTED, rope_scaling={"type": "dynamic", "factor": 2.0})
    setting("rope_longrope", "RoPE scaling \"longrope\" is not computed", UNSUPPORTED, rope_scaling={"rope_type": "longrope", "short_factor": [1.0]})
    setting("rope_by_layer", "RoPE that differs by layer", UNSUPPORTED, rope_parameters={"full_attention": {"rope_type": "default"}})
    setting("rope_in_part", "heads that RoPE turns in part", UNSUPPORTED, partial_rotary_factor=0.5)
    setting("quantised", "weights quantised by \"gptq\" cannot be run", UNSUPPORTED, quantization_config={"quant_method": "gptq", "bits": 4})
    setting("gelu", "the activation \"gelu\" is not computed", UNSUPPORTED, hidden_act="gelu")
    setting("mlp_bias_text", "mlp_bias: got \"yes\"", mlp_bias="yes")
    row("mlp_bias_without_tensor", "gate_proj.bias is in none of the files, though mlp_bias",
        lambda files: files["config.json"].update(mlp_bias=True), 0)
    setting("bias_text", "attention_bias: got \"yes\"", attention_bias="yes")
    row("bias_without_tensor", "q_proj.bias is in none of the files, though attention_bias",
        lambda files: files["config.json"].update(attention_bias=True), 0)
    setting("tied_number", "tie_word_embeddings: got 1", tie_word_embeddings=1)
    setting("type_number", "model_type: got 1", model_type=1)
    setting("type_unknown", "architecture \"mamba\" is not computed", UNSUPPORTED, model_type="mamba")
    catalogue.rows[-1] = (*catalogue.rows[-1][:4], "0")
    setting("class_of_another_task", "LlamaForSequenceClassification is not computed", UNSUPPORTED, architectures=["LlamaForSequenceClassification"])
    setting("class_number", "architectures: got 1", architectures=[1])
    setting("class_text", "architectures: got", architectures="LlamaForCausalLM")
    setting("qwen2_slides", "sliding window are not computed", UNSUPPORTED, model_type="qwen2", architectures=["Qwen2ForCausalLM"], use_sliding_window=True, sliding_window=64)
    setting("qwen3_without_head_dim", "head_dim is missing", code=CORRUPT, model_type="qwen3", architectures=["Qwen3ForCausalLM"])
    catalogue.rows[-1] = (*catalogue.rows[-1][:4], "0")
    setting("window_negative", "sliding_window: got -1", sliding_window=-1)


def add_mixture_rows(catalogue):
    def tensors(name, text, kind, change, offset=0, code=CORRUPT):
        wanted = mixture_shapes(kind)
        change(wanted)
        catalogue.add(f"mixture_{name}", code, text, valid_mixture(kind, wanted), offset)

    def setting(name, text, kind=QWEN2_MOE, code=CORRUPT, offset="*", **changes):
        files = valid_mixture(kind)
        files.files["config.json"].update(changes)
        catalogue.add(f"mixture_{name}", code, text, files, offset)

    def without(key, kind, text):
        files = valid_mixture(kind)
        del files.files["config.json"][key]
        catalogue.add(f"mixture_{kind}_without_{key}", CORRUPT, f"{text} is missing", files, 0)

    for kind, count in ((MIXTRAL, "num_local_experts"), (QWEN2_MOE, "num_experts"), (QWEN3_MOE, "num_experts")):
        block, parts = mixture_names(kind)
        gate = parts[0] + ".weight"
        for label, value in (("0", 0), ("negative", -1), ("text", "4"), ("2_32", 2**32)):
            setting(f"{kind}_count_{label}", f"{count}: got", kind, **{count: value})
        without(count, kind, "num_local_experts")
        without("num_experts_per_tok", kind, "num_experts_per_tok")
        for value in (0, 5):
            setting(f"{kind}_used_{value}", f"num_experts_per_tok: got {value}, need a whole number from 1 to 4", kind, num_experts_per_tok=value)
        setting(f"{kind}_one_more", f"tensor {block}experts.4.{gate} is in none of the files, though {count} needs it", kind, offset=0, **{count: EXPERTS + 1})
        setting(f"{kind}_one_less", f"is of expert 3, though {count} says 3 experts", kind, **{count: EXPERTS - 1})
        setting(f"{kind}_of_two_layers", f"tensor {block.replace('.0.', '.1.')}experts.0.{gate} is in none of the files", kind, offset=0, num_hidden_layers=2)
        for part in parts:
            name = f"{block}experts.2.{part}.weight"
            tensors(f"{kind}_without_{part}", f"tensor {name} is in none of the files", kind, lambda wanted, name=name: wanted.pop(name))
        tensors(f"{kind}_leading_zero", f"tensor {block}experts.2.{gate} is in none of the files", kind,
                lambda wanted, block=block, gate=gate: wanted.update({f"{block}experts.02.{gate}": wanted.pop(f"{block}experts.2.{gate}")}))
        extra = f"{block}experts.2.w4.weight"
        tensors(f"{kind}_extra_part", f"tensor {extra} has no place", kind, lambda wanted, extra=extra: wanted.update({extra: [4]}), "*", UNSUPPORTED)
        tensors(f"{kind}_endless_name", f"tensor {(extra + 'x' * 99)[:80]}... has no place", kind,
                lambda wanted, extra=extra: wanted.update({extra + "x" * 99: [4]}), "*", UNSUPPORTED)

        def fused(wanted, ffn=FFN if kind == MIXTRAL else EXPERT_FFN):
            for name in [name for name in wanted if ".experts." in name]:
                del wanted[name]
            wanted.update({"model.layers.0.mlp.experts.gate_up_proj": [EXPERTS, 2 * ffn, WIDTH], "model.layers.0.mlp.experts.down_proj": [EXPERTS, WIDTH, ffn]})
        tensors(f"{kind}_fused", "holds all experts of a layer; split it", kind, fused, "*", UNSUPPORTED)

        router = f"{block}gate.weight"
        tensors(f"{kind}_without_router", "tensor blk.0.ffn_gate_inp.weight is missing", kind, lambda wanted, router=router: wanted.pop(router))
        tensors(f"{kind}_router_of_5", router, kind, lambda wanted, router=router: wanted.update({router: [5, WIDTH]}))
        name = f"{block}experts.1.{parts[2]}.weight"
        tensors(f"{kind}_transposed", name, kind, lambda wanted, name=name: wanted.update({name: wanted[name][::-1]}))
    for part in ("shared_expert.up_proj", "shared_expert_gate"):
        name = f"model.layers.0.mlp.{part}.weight"
        tensors(f"without_{part}", name, QWEN2_MOE, lambda wanted, name=name: wanted.pop(name))
        tensors(f"{part}_in_qwen3_moe", name, QWEN3_MOE, lambda wanted, name=name: wanted.update({name: [SHARED_FFN, WIDTH]}), 0, UNSUPPORTED)
    tensors("shared_gate_of_two", "model.layers.0.mlp.shared_expert_gate.weight", QWEN2_MOE,
            lambda wanted: wanted.update({"model.layers.0.mlp.shared_expert_gate.weight": [2, WIDTH]}))
    for key in ("moe_intermediate_size", "shared_expert_intermediate_size"):
        for label, value in (("0", 0), ("text", "24"), ("huge", 2**24 + 1)):
            setting(f"{key}_{label}", f"{key}: got", **{key: value})
        without(key, QWEN2_MOE, "intermediate_size" if key.startswith("moe") else key)
    without("intermediate_size", MIXTRAL, "intermediate_size")
    setting("norm_text", "norm_topk_prob: got \"yes\"", norm_topk_prob="yes")
    setting("counted_twice", "num_local_experts: got 8, need num_experts, 4", num_local_experts=8)
    for kind in (QWEN2_MOE, QWEN3_MOE):
        setting(f"{kind}_every_other_layer", "experts in one of 2 layers are not computed", kind, UNSUPPORTED, decoder_sparse_step=2)
        setting(f"{kind}_step_0", "decoder_sparse_step: got 0", kind, decoder_sparse_step=0)
        setting(f"{kind}_dense_layer", "layers without experts are not computed", kind, UNSUPPORTED, mlp_only_layers=[0])
        setting(f"{kind}_dense_layer_text", "mlp_only_layers: got \"0\"", kind, mlp_only_layers=["0"])
        setting(f"{kind}_dense_layers_number", "mlp_only_layers: got 0", kind, mlp_only_layers=0)
    setting("without_qkv_bias", "q, k and v of qwen2_moe without biases", QWEN2_MOE, UNSUPPORTED, qkv_bias=False)
    setting("qkv_bias_text", "qkv_bias: got \"no\"", QWEN2_MOE, qkv_bias="no")
    setting("mixtral_window_0", "sliding_window: got 0", MIXTRAL, sliding_window=0)


def add_tokenizer_rows(catalogue):
    def row(name, text, change, offset="*", code=CORRUPT, base=valid):
        files = base()
        change(files.files)
        catalogue.add(f"tokenizer_{name}", code, text, files, offset)

    def raw(name, text, content, offset="*", code=CORRUPT, file="tokenizer.json"):
        row(name, text, lambda files: files.update({file: content}), offset, code)

    def setting(name, text, code=CORRUPT, base=valid, offset="*", **changes):
        row(name, text, lambda files: files["tokenizer.json"].update(changes), offset, code, base)

    def model(name, text, code=CORRUPT, base=valid, offset="*", **changes):
        row(name, text, lambda files: files["tokenizer.json"]["model"].update(changes), offset, code, base)

    def vocab(name, text, change, offset="*"):
        row(name, text, lambda files: change(files["tokenizer.json"]["model"]["vocab"]), offset)

    def merges(name, text, *more, offset="*", code=CORRUPT):
        row(name, text, lambda files: files["tokenizer.json"]["model"]["merges"].extend(more), offset, code)

    def added(name, text, code=CORRUPT, **changes):
        row(name, text, lambda files: files["tokenizer.json"]["added_tokens"][0].update(changes), code=code)

    row("missing", "the directory has no tokenizer.json", lambda files: files.pop("tokenizer.json"), 0, UNSUPPORTED)
    raw("empty", "the text ends", b"", 0)
    raw("array", "an object", b"[]", 0)
    raw("cut", "the text ends", json.dumps(bpe_tokenizer()).encode()[:-1])
    raw("without_model", "model: got", {"version": "1.0"}, 0)
    setting("model_text", "model: got \"BPE\"", model="BPE")
    for kind in ("Unigram", "WordPiece", "WordLevel"):
        model(f"kind_{kind}", f"the tokenizer \"{kind}\" is not supported", UNSUPPORTED, type=kind)
    model("kind_number", "model.type: got 1", type=1)
    row("vocab_missing", "model.vocab: got", lambda files: files["tokenizer.json"]["model"].pop("vocab"), 0)
    model("vocab_array", "model.vocab: got [", vocab=[["a", 0]])
    vocab("vocab_empty", "no token stands for a single byte|needs the token", lambda v: v.clear(), 0)
    for label, number in (("negative", -1), ("fraction", 5.0), ("text", "5"), ("null", None)):
        vocab(f"number_{label}", "model.vocab: got", lambda v: v.update({"extra": number}))
    vocab("number_beyond", "token \"extra\" has the number 300, but the model has 300 tokens", lambda v: v.update({"extra": 300}))
    vocab("number_2_63", "has the number 9223372036854775808", lambda v: v.update({"extra": 2**63}))
    vocab("number_twice", "both have the number 5", lambda v: v.update({"extra": 5}))
    raw("token_twice", "appears twice", json.dumps(bpe_tokenizer()).replace('"!": 0', '"!": 0, "!": 299').encode())
    row("merges_missing", "model.merges: got", lambda files: files["tokenizer.json"]["model"].pop("merges"))
    model("merges_object", "model.merges: got {}", merges={})
    for label, item in (("number", 1), ("one", ["a"]), ("three", ["a", "b", "c"]), ("empty_part", ["a", ""]), ("numbers", [1, 2]), ("null", None)):
        merges(f"merge_{label}", "model.merges: got", item)
    merges("merge_of_three_words", "merge 8", "a b c", offset=0)
    merges("merge_without_space", "merge 8 reads", "ab", offset=0)
    merges("merge_empty", "merge 8 reads", "", offset=0)
    merges("merge_of_unknown", "merge 8 needs the token \"zq\"|merge 8 needs the token \"z\"|\"zq\"", ["z", "q"], offset=0)
    merges("merge_with_space", "tokens with spaces", ["a b", "c"], code=UNSUPPORTED)
    merges("merges_without_end", "cannot have more merges", *["h e"] * 1000)
    setting("added_object", "added_tokens: got {}", added_tokens={})
    setting("added_number", "added_tokens: got 1", added_tokens=[1])
    setting("added_without_id", "a number as id", added_tokens=[{"content": "<x>"}])
    setting("added_without_content", "a text as content", added_tokens=[{"id": 298}])
    added("added_beyond", "has the number 300", id=300)
    added("added_in_use", "both have the number 5", id=5)
    row("added_other_number", "have the same text \"B\"",
        lambda files: (files["tokenizer.json"]["added_tokens"][0].update(content="B"), files.pop("tokenizer_config.json")), 0)
    for flag in ("lstrip", "rstrip", "single_word"):
        added(f"added_{flag}", f"has {flag}, which is not supported", UNSUPPORTED, **{flag: True})
    split = {"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    setting("pre_missing", "without pre-tokenizer and byte fallback", UNSUPPORTED, offset=0, pre_tokenizer=None)
    setting("pre_text", "pre_tokenizer: got", pre_tokenizer="ByteLevel")
    setting("pre_without_type", "pre_tokenizer: got", pre_tokenizer={})
    setting("pre_sequence_without_list", "pre_tokenizer.pretokenizers", pre_tokenizer={"type": "Sequence"})
    setting("pre_whitespace", "the pre_tokenizer step Whitespace is not supported", UNSUPPORTED, pre_tokenizer={"type": "Whitespace"})
    setting("pre_pattern", "the pre_tokenizer step Split is not supported", UNSUPPORTED, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]})
    setting("pre_prefix_space", "the pre_tokenizer step ByteLevel is not supported", UNSUPPORTED, pre_tokenizer={**level, "add_prefix_space": True, "use_regex": True})
    setting("normalizer_lowercase", "the normalizer step Lowercase is not supported", UNSUPPORTED, normalizer={"type": "Lowercase"})
    setting("normalizer_other_replacement", "the normalizer step Replace is not supported", UNSUPPORTED, base=valid_shards,
            normalizer={"type": "Replace", "pattern": {"Regex": " "}, "content": MARK})
    setting("metaspace_splits", "the pre_tokenizer step Metaspace is not supported", UNSUPPORTED, base=valid_shards, normalizer=None,
            pre_tokenizer={"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True})
    setting("post_bert", "the post_processor step BertProcessing is not supported", UNSUPPORTED, post_processor={"type": "BertProcessing"})
    setting("post_without_single", "post_processor.single", post_processor={"type": "TemplateProcessing"})
    special = [{"SpecialToken": {"id": "h"}}]
    setting("post_two_tokens", "more than one special token", UNSUPPORTED, post_processor={"type": "TemplateProcessing", "single": special + special})
    setting("post_other_token", "around a text, which is neither", UNSUPPORTED, base=valid_shards,
            post_processor={"type": "TemplateProcessing", "single": special + [{"Sequence": {"id": "A"}}]})
    model("dropout", "left out by chance", UNSUPPORTED, dropout=0.1)
    model("suffix", "end_of_word_suffix is not supported", UNSUPPORTED, end_of_word_suffix="</w>")
    model("byte_fallback_text", "model.byte_fallback: got \"yes\"", byte_fallback="yes")
    model("unknown_token_unknown", "unk_token \"<u>\" is not in the vocabulary", unk_token="<u>")
    row("bytes_missing", "tokens for 255 of 256 bytes", lambda files: files["tokenizer.json"]["model"]["vocab"].pop("<0x41>"), 0, UNSUPPORTED, valid_shards)
    row("bytes_negative", "tokens for 255 of 256 bytes",
        lambda files: files["tokenizer.json"]["model"]["vocab"].update({"<0x-1>": files["tokenizer.json"]["model"]["vocab"].pop("<0x41>")}), 0, UNSUPPORTED, valid_shards)

    settings = "tokenizer_config.json"
    raw("settings_cut", "tokenizer_config.json", b"{", "*", file=settings)
    raw("settings_array", "tokenizer_config.json", b"[]", 0, file=settings)
    raw("bos_unknown", "bos_token \"<x>\" is not in the vocabulary", {"bos_token": "<x>"}, file=settings)
    raw("bos_number", "bos_token: got 1", {"bos_token": 1}, file=settings)
    raw("eos_without_content", "eos_token: got {}", {"eos_token": {}}, file=settings)
    raw("add_bos_text", "add_bos_token: got \"no\"", {"add_bos_token": "no"}, file=settings)
    raw("template_number", "chat_template: got 1", {"chat_template": 1}, file=settings)
    raw("template_list", "chat_template: got", {"chat_template": [{"name": "default"}]}, file=settings)
    raw("names_array", "special_tokens_map.json", b"[]", 0, file="special_tokens_map.json")
    raw("generation_cut", "generation_config.json", b'{"eos_token_id":', file="generation_config.json")
    for label, value in (("beyond", 300), ("negative", -1), ("text", "298"), ("list", [298, "x"]), ("list_beyond", [298, 2**40])):
        raw(f"end_{label}", "eos_token_id: got", {"eos_token_id": value}, file="generation_config.json")
    row("bos_id_beyond", "bos_token_id: got 300", lambda files: (files.pop(settings), files["config.json"].update(bos_token_id=300)))


def main():
    folder = pathlib.Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    valid().write(folder / "valid")
    valid_shards().write(folder / "valid_shards")
    valid_shards(layers=6, width=64, kv=32, ffn=256).write(folder / "valid_larger")
    for kind in CLASSES:
        valid_mixture(kind).write(folder / f"valid_{kind}")
    catalogue = Catalogue(folder)
    add_safetensors_rows(catalogue)
    add_index_rows(catalogue)
    add_config_rows(catalogue)
    add_mixture_rows(catalogue)
    add_tokenizer_rows(catalogue)
    catalogue.write()
    print(len(catalogue.rows), "malformed directories")


main()
