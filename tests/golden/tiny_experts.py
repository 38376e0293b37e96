"""What make_families.py needs of mixtures of experts: their tensors as GGUF files have them, and texts in which no choice of experts is close.

Needs numpy, torch.
"""
import numpy as np
import torch

# Between the least score that is chosen and the largest that is not; scores have a deviation of 1.5. Activations of 8 bits move a score by
# 0.03 as a rule and by 0.17 at most in these models, sums of float32 in another order by 1e-6. A flipped choice changes all behind it.
STEADY_GAP = 0.5
FLOAT_GAP = 0.02
CANDIDATES = 32
KEPT_EVERY = 8  # logits of this many tokens: enough for all experts of the last layer to have a part in them


def routers(model):
    """Of each layer; none in a dense model."""
    return [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "experts")]


def routed(model, sequences):
    """For sequences of one length, by layer: scores [sequences, tokens, experts], weights and ids of the chosen [sequences, tokens, top]."""
    found = []
    hooks = [router.register_forward_hook(lambda _, __, output: found.append(output)) for router in routers(model)]
    with torch.no_grad():
        model(torch.tensor(sequences))
    for hook in hooks:
        hook.remove()
    shape = (len(sequences), len(sequences[0]), -1)
    return [tuple(part.numpy().reshape(shape) for part in layer) for layer in found]


def gaps(model, sequences):
    """[layers, sequences, tokens]: between the last score that is chosen and the first that is not."""
    all_gaps = []
    for scores, weights, _ in routed(model, sequences):
        ordered, top = np.sort(scores, axis=-1), weights.shape[-1]
        all_gaps.append(ordered[..., -top] - ordered[..., -top - 1])
    return np.array(all_gaps)


def least_gap(model, tokens):
    """Infinite for a dense model."""
    return gaps(model, [tokens]).min() if routers(model) else np.inf


def steady_tokens(model, rng, vocabulary, length):
    """Random tokens, each chosen so that all layers choose its experts by STEADY_GAP."""
    tokens = []
    while len(tokens) < length:
        candidates = rng.integers(0, vocabulary, CANDIDATES).tolist()
        least = gaps(model, [tokens + [token] for token in candidates])[..., -1].min(axis=0)
        steady = [token for token, gap in zip(candidates, least) if gap > STEADY_GAP]
        tokens += steady[:1]
    return tokens


def routing(model, tokens):
    """What a test compares: ids and weights of the experts of each token in each layer, the heaviest first."""
    layers = [{"experts": ids[0].tolist(), "weights": [[float(f"{weight:.9g}") for weight in token] for token in weights[0]]}
              for _, weights, ids in routed(model, [tokens])]
    return {"tokens": tokens, "layers": layers}


def check_all_serve(model, sequences):
    """An expert that serves none of the positions whose logits are kept could be wrong unnoticed. sequences: (tokens, positions)."""
    for index, router in enumerate(routers(model)):
        chosen = {expert for tokens, positions in sequences for expert in routed(model, [tokens])[index][2][0][positions].flatten().tolist()}
        assert len(chosen) == router.num_experts, (index, chosen)


def as_stacks(name, values):
    """A parameter of transformers as (name, values) of the hub's directories, but with all experts of a layer in one: [experts, rows, columns]."""
    if name.endswith("mlp.experts.gate_up_proj"):
        prefix = name.removesuffix("gate_up_proj")
        rows = values.shape[1] // 2
        return [(f"{prefix}gate_proj.weight", values[:, :rows]), (f"{prefix}up_proj.weight", values[:, rows:])]
    if name.endswith("mlp.experts.down_proj"):
        return [(f"{name}.weight", values)]
    return [(name, values)]


def one_by_one(tensors):
    """GGUF tensors with each stack as one tensor an expert, as files of 2023 have them: blk.N.ffn_gate.E.weight."""
    split = {}
    for name, (kind, dims, data) in tensors.items():
        if "_exps." not in name:
            split[name] = (kind, dims, data)
            continue
        size = len(data) // dims[2]
        for expert in range(dims[2]):
            split[name.replace("_exps.", f".{expert}.")] = (kind, dims[:2], data[expert * size:(expert + 1) * size])
    return split
