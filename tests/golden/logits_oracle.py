"""The independent oracle for logits: transformers' llama in float32, filled from a GGUF file that the gguf package dequantises.

Used by the make_*.py scripts beside it. Needs numpy, gguf, torch, transformers.
"""
import struct

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import LlamaConfig, LlamaForCausalLM


def field(reader, key, default=None):
    entry = reader.fields.get(key)
    return default if entry is None else entry.contents()


def unpermute(weight, heads):
    """GGUF stores q and k with the halves of each head interleaved; transformers wants the halves side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def load(path, rope_scaling=None):
    """The file as a transformers model; `rope_scaling` as in config.json, for files whose scaling is in a rope_freqs tensor."""
    reader = GGUFReader(path)
    heads = field(reader, "llama.attention.head_count")
    kv_heads = field(reader, "llama.attention.head_count_kv", heads)
    width = field(reader, "llama.embedding_length")
    tensors = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    if field(reader, "llama.rope.scaling.type") == "linear":
        rope_scaling = {"rope_type": "linear", "factor": field(reader, "llama.rope.scaling.factor")}
    rope = {"rope_theta": field(reader, "llama.rope.freq_base", 10000.0), "rope_type": "default"}
    rope.update(rope_scaling or {})
    config = LlamaConfig(
        hidden_size=width, intermediate_size=field(reader, "llama.feed_forward_length"), num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads, vocab_size=tensors["token_embd.weight"].shape[0],
        head_dim=field(reader, "llama.attention.key_length", width // heads), rms_norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        max_position_embeddings=field(reader, "llama.context_length"), rope_parameters=rope, tie_word_embeddings=False, attention_bias=False)
    model = LlamaForCausalLM(config).eval()

    state = {"model.embed_tokens.weight": tensors["token_embd.weight"], "model.norm.weight": tensors["output_norm.weight"],
             "lm_head.weight": tensors.get("output.weight", tensors["token_embd.weight"])}
    parts = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj"}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in parts.items():
            weight = tensors[f"blk.{layer}.{ours}.weight"]
            if ours in ("attn_q", "attn_k"):
                weight = unpermute(weight, heads if ours == "attn_q" else kv_heads)
            state[f"model.layers.{layer}.{theirs}.weight"] = weight
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}, strict=False)
    assert not unexpected and all("rotary" in m for m in missing), (missing, unexpected)
    return model.float()


def logits(model, tokens):
    """[tokens, vocabulary] float32."""
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def write(path, sequences, ids):
    """sequences: list of (tokens, positions, logits[len(positions), vocabulary]). Only the columns `ids` are kept, and each row's best id.

    int32 count; per sequence: int32 n, n tokens, int32 rows, rows positions, rows best ids; int32 k, k ids; then float32 rows x k each.
    """
    with open(path, "wb") as out:
        out.write(struct.pack("<i", len(sequences)))
        for tokens, positions, rows in sequences:
            out.write(struct.pack("<i", len(tokens)) + np.asarray(tokens, "<i4").tobytes())
            out.write(struct.pack("<i", len(positions)) + np.asarray(positions, "<i4").tobytes() + rows.argmax(axis=1).astype("<i4").tobytes())
        out.write(struct.pack("<i", len(ids)) + np.asarray(ids, "<i4").tobytes())
        for _, _, rows in sequences:
            out.write(rows[:, ids].astype("<f4").tobytes())
