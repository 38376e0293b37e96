#!/usr/bin/env python3
"""Gradients of the factors of low-rank branches, by torch's automatic differentiation of transformers' models.

make_branch_gradients.py DIRECTORY    (tests/golden). Same bytes each time. Needs numpy, gguf, torch, transformers.

Writes gradients/NAME.gradients for tiny models that are there already. Teacher: the model. Student: its layers' matrices rounded to eighths, with branches B A of rank 2
whose numbers are those of `factors`. Loss: the mean over a text's tokens of KL(teacher || student).
The file: int32 n, n tokens; float64 loss; then for each layer's q, k, v, output, gate, up, down the gradients of A [2, columns] and of B [rows, 2], float32.
"""
import pathlib
import struct
import sys

import numpy as np
import torch
import transformers

import logits_oracle

RANK = 2
PARTS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
HF = ["llama-biases", "qwen2", "qwen3", "qwen3-yarn"]   # directories: pairs of RoPE are halves of a head
GGUF = ["tinyllama"]                                     # a file: pairs stand side by side


def factors(index, rows, columns):
    """Of the index-th matrix of all: sixty-fourths, which float32 holds exactly."""
    j = np.arange(RANK)
    a = ((j[:, None] * 7 + np.arange(columns)[None, :] * 13 + index * 3) % 17 - 8) / 64
    b = ((np.arange(rows)[:, None] * 5 + j[None, :] * 11 + index * 3) % 19 - 9) / 64
    return [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in (a, b)]


def unpermute(weight, heads):
    """As logits_oracle.unpermute, for what gradients pass through."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def gradients(model, file_heads):
    """`file_heads`: (of queries, of keys) when the file holds their rows permuted: factors are of the file's rows."""
    tokens = np.random.default_rng(3).integers(0, 250, 37).tolist()
    ids = torch.tensor([tokens])
    with torch.no_grad():
        reference = torch.log_softmax(model(ids).logits[0].double(), -1)
    state, trained = dict(model.named_parameters()), []
    for layer in range(model.config.num_hidden_layers):
        for part in PARTS:
            name = f"model.layers.{layer}.{part}.weight"
            weight = state[name].detach()
            a, b = factors(len(trained), *weight.shape)
            branch = b @ a
            if file_heads and part[-6:] in ("q_proj", "k_proj"):
                branch = unpermute(branch, file_heads[part[-6] == "k"])
            state[name] = torch.round(weight * 8) / 8 + branch
            trained.append((a, b))
    logits = torch.func.functional_call(model, state, (ids,)).logits[0].double()
    loss = (reference.exp() * (reference - torch.log_softmax(logits, -1))).sum(-1).mean()
    loss.backward()
    return tokens, loss.item(), trained


def main():
    root = pathlib.Path(sys.argv[1])
    (root / "gradients").mkdir(exist_ok=True)
    models = {name: (transformers.AutoModelForCausalLM.from_pretrained(root / "hf" / name, dtype=torch.float32).eval(), None) for name in HF}
    for name in GGUF:
        model = logits_oracle.load(root / "logits" / f"{name}.gguf")
        models[name] = (model, (model.config.num_attention_heads, model.config.num_key_value_heads))
    for name, (model, file_heads) in models.items():
        tokens, loss, trained = gradients(model, file_heads)
        with open(root / "gradients" / f"{name}.gradients", "wb") as out:
            out.write(struct.pack("<i", len(tokens)) + np.asarray(tokens, "<i4").tobytes() + struct.pack("<d", loss))
            for pair in trained:
                for factor in pair:
                    out.write(factor.grad.numpy().astype("<f4").tobytes())
        print(name, len(trained), loss)


main()
