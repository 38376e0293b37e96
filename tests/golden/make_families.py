#!/usr/bin/env python3
"""Makes a tiny random model of each family, as a GGUF file and as a Hugging Face directory, and what transformers computes with it in float32.

make_families.py DIRECTORY    (tests/golden). Same bytes each time. Needs numpy, torch, transformers, tokenizers.

Writes logits/NAME.gguf, logits/NAME.logits (logits_oracle.py), logits/NAME.json (greedy tokens, token ids of texts, a conversation),
hf/NAME/ (config.json, safetensors, tokenizer.json, tokenizer_config.json) and rope_scaling.json (frequencies of many RoPE scalings). For
mixtures of experts also logits/NAME.routing.json (the experts of a text), and for Mixtral logits/mixtral-split.gguf (experts one by one).
Weights are small integers times powers of two, which Q8_0 or Q4_0 as well as F16 and BF16 hold exactly: one oracle serves both forms.
"""
import copy
import dataclasses
import json
import math
import pathlib
import shutil
import struct
import sys

import numpy as np
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import logits_oracle
import tiny_experts
import tiny_tokenizers
from make_bad_gguf import ARRAY, BOOL, F32, I32, STRING, U32, Gguf
from tiny_tokenizers import byte_level, chatml_with, sentencepiece

TYPE_F32, TYPE_F16, TYPE_Q4_0, TYPE_Q8_0 = 0, 1, 2, 8
CODES = {TYPE_Q4_0: (3, -8, 7), TYPE_Q8_0: (32, -127, 127), TYPE_F16: (32, -127, 127)}  # spread, least and most code

TEXTS = ["", "Hello", "The outrigger carries the load.", " leading and trailing ", "tabs\tand\nlines\n\n\nend", "in 1999 and 2024, 3.14159 or 12345678",
         "it's THEY'RE don't I'LL we'd", "def f(x):\n    return x + 1  # twice\n", "na\u00efve \u00dcber \u00e9t\u00e9", "\u6c34\u306e\u4e0a \u043f\u0440\u0438\u0432\u0435\u0442",
         "\U0001f680\U0001f469\u200d\U0001f4bb!", "...!?--(){}[]", "   three   spaces   ", "a" * 40, "\r\nx \u00a0y", "the the the other there"]
CONVERSATION = [{"role": "user", "content": "Is there room for one more?"}, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Then carry 7."}]


@dataclasses.dataclass
class Family:
    name: str
    architecture: str      # GGUF's
    model_class: type
    config: dict
    tokenizer: tiny_tokenizers.TinyTokenizer
    weights: int = TYPE_Q8_0
    dtype: torch.dtype = torch.bfloat16   # of the safetensors
    shards: int = 1
    old_config: bool = False              # config.json as transformers 4 writes it
    padded_tokens: int = 0                # rows beyond the tokenizer's tokens
    longest: int = 120
    seed: int = 0


def families():
    llama, mistral = (transformers.LlamaConfig, transformers.LlamaForCausalLM), (transformers.MistralConfig, transformers.MistralForCausalLM)
    mixtral = (transformers.MixtralConfig, transformers.MixtralForCausalLM)
    qwen2moe, qwen3moe = (transformers.Qwen2MoeConfig, transformers.Qwen2MoeForCausalLM), (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM)
    qwen2, qwen3 = (transformers.Qwen2Config, transformers.Qwen2ForCausalLM), (transformers.Qwen3Config, transformers.Qwen3ForCausalLM)

    def family(name, architecture, classes, config, tokenizer, **more):
        vocabulary = len(tokenizer.tokens) + more.get("padded_tokens", 0)
        ids = {key: tokenizer.tokenizer.token_to_id(text) for key, text in (("bos_token_id", tokenizer.bos), ("eos_token_id", tokenizer.eos)) if text}
        base = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=vocabulary,
                    max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=None, bos_token_id=None)
        return Family(name, architecture, classes[1], classes[0](**{**base, **ids, **config}), tokenizer, **more)

    chatml_specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    llama3_specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    smollm = byte_level("smollm", chatml_specials, bos="<|im_start|>", eos="<|im_end|>", chat=chatml_with(
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face"), chat_name="smollm")
    llama3 = byte_level("llama-bpe", llama3_specials, bos="<|begin_of_text|>", eos="<|eot_id|>", chat=tiny_tokenizers.LLAMA3_CHAT, chat_name="llama-3")
    qwen = byte_level("qwen2", chatml_specials, eos="<|im_end|>", chat=chatml_with("You are a helpful assistant."), chat_name="qwen")
    qwen_thinks = byte_level("qwen2", chatml_specials, ["<think>", "</think>"], eos="<|im_end|>")
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    return [
        family("tinyllama", "llama", llama, dict(rope_theta=10000.0), sentencepiece(), old_config=True, seed=11),
        family("smollm", "llama", llama, dict(tie_word_embeddings=True, num_attention_heads=3, num_key_value_heads=1, hidden_size=96, head_dim=32, intermediate_size=96,
                                              num_hidden_layers=1, rope_parameters={"rope_type": "default", "rope_theta": 100000.0}),
               smollm, weights=TYPE_Q4_0, seed=12),
        family("llama3", "llama", llama, dict(rope_parameters={
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
            llama3, dtype=torch.float16, old_config=True, seed=13),
        family("mistral", "llama", mistral, dict(head_dim=24, num_key_value_heads=1, sliding_window=64, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
               sentencepiece(chat=tiny_tokenizers.MISTRAL_CHAT, chat_name="mistral"), longest=64, seed=14),
        family("llama-biases", "llama", llama, dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=5, intermediate_size=52, attention_bias=True, mlp_bias=True, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}),
               smollm, weights=TYPE_F16, dtype=torch.float16, seed=15),
        family("qwen2", "qwen2", qwen2, dict(tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
               qwen, shards=2, padded_tokens=5, old_config=True, seed=16),
        family("qwen3", "qwen3", qwen3, dict(head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, rms_norm_eps=1e-6), qwen_thinks, seed=17),
        family("qwen3-yarn", "qwen3", qwen3, dict(head_dim=16, num_hidden_layers=1, attention_bias=True, rope_parameters=yarn), qwen_thinks,
               dtype=torch.float32, weights=TYPE_Q4_0, seed=18),
        # The directory leaves out the base of RoPE, which is the family's own.
        family("mixtral", "llama", mixtral, dict(intermediate_size=32, num_local_experts=8, num_experts_per_tok=2,
                                                 rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}), sentencepiece(), seed=32),
        # Experts of 40 rows: no multiple of the 16 that are packed together; their `down` is F16, since 40 columns are no blocks.
        family("qwen2moe", "qwen2moe", qwen2moe, dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, shared_expert_intermediate_size=64,
                                                      rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
               qwen, shards=2, dtype=torch.float16, seed=20),
        family("qwen3moe", "qwen3moe", qwen3moe, dict(head_dim=16, num_experts=8, num_experts_per_tok=4, moe_intermediate_size=32, norm_topk_prob=True,
                                                      rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
               qwen_thinks, old_config=True, seed=21),
        family("qwen3moe-raw", "qwen3moe", qwen3moe, dict(head_dim=16, num_hidden_layers=1, num_experts=8, num_experts_per_tok=4, moe_intermediate_size=32,
                                                          norm_topk_prob=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
               qwen_thinks, dtype=torch.float32, weights=TYPE_Q4_0, seed=22),
    ]


def fill(family):
    """The model with random weights; and each matrix or stack of them as (codes, power of two), rows as transformers has them."""
    model = family.model_class(family.config).eval()
    if tiny_experts.routers(model):
        model.set_experts_implementation("eager")
    rng = np.random.default_rng(family.seed)
    codes = {}
    spread, least, most = CODES[family.weights]
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() >= 2:
                unit = 2.0 ** round(math.log2(1.5 / math.sqrt(parameter.shape[-1]) / spread))
                values = np.clip(np.rint(rng.standard_normal(parameter.shape) * spread), least, most)
                codes[name] = (values.astype(np.int8), unit)
                parameter.copy_(torch.from_numpy((values * unit).astype(np.float32)))
            else:
                is_norm = name.endswith("norm.weight")
                values = torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32) / (4 if is_norm else 1) + (1 if is_norm else 0))
                parameter.copy_(values.bfloat16().float())
    return model.float(), codes


def interleave(rows, heads):
    """GGUF files of llama models hold q and k with the halves of each head interleaved."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def pack(codes, unit, kind):
    if kind == TYPE_F16:
        return (codes.astype(np.float32) * unit).astype("<f2").tobytes()
    groups = codes.reshape(-1, 32)
    if kind == TYPE_Q4_0:
        nibbles = (groups + 8).astype(np.uint8)
        groups = nibbles[:, :16] | nibbles[:, 16:] << 4
    scale = struct.pack("<e", unit)
    return b"".join(scale + group.tobytes() for group in groups)


PARTS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
         **{f"mlp.{theirs}.{part}_proj": f"ffn_{part}_{ours}" for theirs, ours in (("experts", "exps"), ("shared_expert", "shexp")) for part in ("gate", "up", "down")}}
ROUTERS = ("ffn_gate_inp", "ffn_gate_inp_shexp")  # files keep them in F32


def gguf_name(name):
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in top:
        return top[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def expert_settings(family):
    config = family.config
    settings = {"expert_count": (U32, config.num_experts), "expert_used_count": (U32, config.num_experts_per_tok)}
    if family.name != "mixtral":
        settings["expert_feed_forward_length"] = (U32, config.moe_intermediate_size)
    if family.architecture == "qwen2moe":
        settings["expert_shared_feed_forward_length"] = (U32, config.shared_expert_intermediate_size)
    if family.name == "qwen3moe-raw":
        settings["expert_weights_norm"] = (BOOL, 0)
    return settings


def gguf_tensors(family, model, codes):
    """name -> (type, dims, bytes)"""
    config, tensors = family.config, {}
    for name, parameter in model.named_parameters():
        is_coded = name in codes
        whole, unit = codes[name] if is_coded else (parameter.detach().numpy(), 1)
        for part_name, values in tiny_experts.as_stacks(name, whole):
            ours = gguf_name(part_name)
            part = ours.split(".")[-2]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part, 0) if family.architecture == "llama" else 0
            values = interleave(values, heads) if heads else values
            if part in ROUTERS:
                values, is_coded = (values * unit).astype(np.float32).squeeze(), False
            kind = family.weights if is_coded else TYPE_F32
            if kind in (TYPE_Q4_0, TYPE_Q8_0) and values.shape[-1] % 32 != 0:
                kind = TYPE_F16
            data = pack(values, unit, kind) if is_coded else values.astype("<f4").tobytes()
            tensors[ours] = (kind, list(reversed(values.shape)), data)
    return tensors


def write_gguf(path, family, model, codes):
    config, arch, tiny = family.config, family.architecture, family.tokenizer
    file = Gguf()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    settings = {
        "block_count": (U32, config.num_hidden_layers), "context_length": (U32, config.max_position_embeddings), "embedding_length": (U32, config.hidden_size),
        "feed_forward_length": (U32, config.intermediate_size), "attention.head_count": (U32, config.num_attention_heads),
        "attention.head_count_kv": (U32, config.num_key_value_heads), "attention.key_length": (U32, head_dim), "attention.value_length": (U32, head_dim),
        "attention.layer_norm_rms_epsilon": (F32, config.rms_norm_eps), "rope.freq_base": (F32, rope["rope_theta"])}
    if arch == "llama":
        settings["rope.dimension_count"] = (U32, head_dim)
    if family.name == "tinyllama":
        settings["rope.halves"] = (BOOL, 0)  # for a test to change
    if family.name == "mistral":
        settings["attention.sliding_window"] = (U32, config.sliding_window)
    if rope["rope_type"] in ("linear", "yarn"):
        settings["rope.scaling.type"] = (STRING, rope["rope_type"])
        settings["rope.scaling.factor"] = (F32, rope["factor"])
    if rope["rope_type"] == "yarn":
        settings["rope.scaling.original_context_length"] = (U32, rope["original_max_position_embeddings"])
    if tiny_experts.routers(model):
        settings.update(expert_settings(family))
    file.entries["general.architecture"] = (STRING, arch)
    file.entries["general.name"] = (STRING, f"tiny {family.name}")
    file.entries.update({f"{arch}.{name}": value for name, value in settings.items()})

    tokens = tiny.tokens + [f"[PAD{i}]" for i in range(family.padded_tokens)]
    types = tiny.types + [tiny_tokenizers.UNUSED] * family.padded_tokens
    assert len(tokens) == len(types) == config.vocab_size
    file.entries["tokenizer.ggml.model"] = (STRING, tiny.kind)
    if tiny.pre:
        file.entries["tokenizer.ggml.pre"] = (STRING, tiny.pre)
        file.entries["tokenizer.ggml.merges"] = (ARRAY, (STRING, tiny.merges))
    else:
        file.entries["tokenizer.ggml.scores"] = (ARRAY, (F32, [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]))
        file.entries["tokenizer.ggml.unknown_token_id"] = (U32, 0)
    file.entries["tokenizer.ggml.tokens"] = (ARRAY, (STRING, tokens))
    file.entries["tokenizer.ggml.token_type"] = (ARRAY, (I32, types))
    for key, text in (("bos", tiny.bos), ("eos", tiny.eos)):
        if text:
            file.entries[f"tokenizer.ggml.{key}_token_id"] = (U32, tiny.tokenizer.token_to_id(text))
    file.entries["tokenizer.ggml.add_bos_token"] = (BOOL, int(tiny.add_bos))
    file.entries["tokenizer.chat_template"] = (STRING, tiny.chat)

    file.tensors = gguf_tensors(family, model, codes)
    if rope["rope_type"] == "llama3":
        plain = 1 / rope["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim)
        factors = (plain / ROPE_INIT_FUNCTIONS["llama3"](config)[0]).numpy()
        file.tensors["rope_freqs.weight"] = (TYPE_F32, [len(factors)], factors.astype("<f4").tobytes())
    path.write_bytes(file.to_bytes())
    if family.name == "mixtral":
        file.tensors = tiny_experts.one_by_one(file.tensors)
        path.with_stem(f"{path.stem}-split").write_bytes(file.to_bytes())


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def write_directory(path, family, model):
    shutil.rmtree(path, ignore_errors=True)
    total = sum(p.numel() for p in model.parameters()) * family.dtype.itemsize
    saved = copy.deepcopy(model).to(family.dtype)
    saved.save_pretrained(path, max_shard_size=total if family.shards == 1 else total * 2 // 3)
    assert len(list(path.glob("*.safetensors"))) == family.shards, list(path.iterdir())
    (path / "generation_config.json").unlink(missing_ok=True)

    config = json.loads((path / "config.json").read_text())
    if family.old_config:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        config["torch_dtype"] = config.pop("dtype")
        if "num_local_experts" in config:
            config["num_experts"] = config.pop("num_local_experts")
    if family.name == "mixtral":
        del config["rope_parameters"]
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    tiny = family.tokenizer
    write_json(path / "tokenizer.json", json.loads(tiny.tokenizer.to_str()))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tiny.bos, "eos_token": tiny.eos, "unk_token": None if tiny.pre else "<unk>",
                "model_max_length": family.config.max_position_embeddings, "clean_up_tokenization_spaces": False, "chat_template": tiny.chat}
    if not tiny.pre:
        settings["add_bos_token"] = True
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def golden_logits(family, model):
    rng = np.random.default_rng(family.seed)
    sequences = []
    for length in (1, 2, 33, family.longest):
        if tiny_experts.routers(model):
            tokens = tiny_experts.steady_tokens(model, rng, len(family.tokenizer.tokens), length)
        else:
            tokens = rng.integers(0, len(family.tokenizer.tokens), length).tolist()
        kept = {*range(0, length, tiny_experts.KEPT_EVERY)} if tiny_experts.routers(model) else {0, length // 2}
        positions = sorted({*kept, length - 1} & set(range(length)))
        sequences.append((tokens, positions, logits_oracle.logits(model, tokens)[positions]))
    return sequences


def greedy(family, model, count=20, prompts=2):
    """Continuations in which no step is a close call: other sums of the same numbers must find the same tokens."""
    rng = np.random.default_rng(family.seed)
    found = []
    for _ in range(200):
        if len(found) == prompts:
            return found
        prompt = rng.integers(0, len(family.tokenizer.tokens), 5).tolist()
        tokens, least_gap = list(prompt), math.inf
        for _ in range(count):
            row = logits_oracle.logits(model, tokens)[-1]
            best = np.sort(row)
            least_gap = min(least_gap, best[-1] - best[-2])
            tokens.append(int(row.argmax()))
        if least_gap > 2e-3 and len(set(tokens)) > 8 and tiny_experts.least_gap(model, tokens) > tiny_experts.FLOAT_GAP:
            found.append({"prompt": prompt, "tokens": tokens[5:]})
    raise AssertionError(f"{family.name}: too many close calls")


def texts(family):
    tiny = family.tokenizer
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer, bos_token=tiny.bos, eos_token=tiny.eos, chat_template=tiny.chat)
    chat = fast.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=True)
    return {"cases": [{"text": text, "ids": tiny.tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS],
            "special": tiny.tokenizer.encode(TEXTS[2], add_special_tokens=True).ids,
            "chat": {"name": tiny.chat_name, "messages": CONVERSATION, "text": chat}}


def rope_scalings():
    """Frequencies and magnitude of many scalings, by transformers."""
    rows = []

    def row(dim, base, context, **rope):
        config = transformers.LlamaConfig(hidden_size=dim, num_attention_heads=1, max_position_embeddings=context, rope_parameters={"rope_theta": base, **rope})
        frequencies, magnitude = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config)
        rows.append({"dim": dim, "base": base, "context": context, "rope": rope, "frequencies": [float(f"{f:.9g}") for f in frequencies], "magnitude": magnitude})

    for dim, base in ((16, 10000.0), (64, 500000.0), (128, 1000000.0), (100, 10000.0)):
        row(dim, base, 4096, rope_type="linear", factor=4.0)
        for factor, low, high, original in ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192), (4.0, 2.0, 3.0, 512), (2.0, 1.0, 1.5, 64)):
            row(dim, base, 131072, rope_type="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_max_position_embeddings=original)
        for more in ({}, {"beta_fast": 64.0, "beta_slow": 2.0}, {"attention_factor": 1.5}, {"beta_fast": 4.0, "beta_slow": 4.0}):
            for factor, original in ((4.0, 32768), (1.5, 512), (40.0, 4096), (0.5, 64)):
                row(dim, base, 131072, rope_type="yarn", factor=factor, original_max_position_embeddings=original, **more)
    return rows


def main():
    out = pathlib.Path(sys.argv[1])
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for family in families():
        model, codes = fill(family)
        gguf = out / "logits" / f"{family.name}.gguf"
        write_gguf(gguf, family, model, codes)
        directory = out / "hf" / family.name
        write_directory(directory, family, model)
        again = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        if tiny_experts.routers(model):
            again.set_experts_implementation("eager")
        assert type(again) is family.model_class
        tokens = list(range(40))
        assert np.array_equal(logits_oracle.logits(again, tokens), logits_oracle.logits(model, tokens))
        sequences = golden_logits(family, model)
        logits_oracle.write(gguf.with_suffix(".logits"), sequences, list(range(family.config.vocab_size)))
        if tiny_experts.routers(model):
            tiny_experts.check_all_serve(model, [(tokens, positions) for tokens, positions, _ in sequences])
            write_json(gguf.with_suffix(".routing.json"), tiny_experts.routing(model, sequences[2][0]))
        write_json(gguf.with_suffix(".json"), {"architecture": family.architecture, "greedy": greedy(family, model), **texts(family)})
        print(family.name, gguf.stat().st_size, "bytes, largest logit", max(abs(rows).max() for _, _, rows in sequences))
    write_json(out / "rope_scaling.json", rope_scalings())


main()
