#!/usr/bin/env python3
"""Makes a mixture of experts that computes what a dense llama computes: every feed-forward block E times behind a random router.

experts.py IN.gguf OUT.gguf --experts E --top K [--seed N]

The experts of a layer are equal and the weights of the K that are used sum to one, so that the text is that of IN, whichever the router
chooses; bytes and choices are those of a real mixture. The same bytes each time. Architecture llama with expert_count, as Mixtral's files.
Needs numpy, gguf. Tensors are written one after the other: memory for the largest stack is enough.
"""
import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import gguf_copy

MATRICES = ("ffn_gate", "ffn_up", "ffn_down")


def router(name, experts, width, seed):
    """Scores of the deviation of what they are computed from, another router in each layer."""
    layer = int(name.split(".")[1])

    def make():
        return (np.random.default_rng((seed, layer)).standard_normal((experts, width)) / np.sqrt(width)).astype(np.float32)
    return (f"blk.{layer}.ffn_gate_inp.weight", (experts, width), gguf_copy.PLAIN[T.F32], T.F32, make)


def mixed(tensor, options):
    """What write_streaming takes for one tensor, and for the router before the first of a layer's stacks."""
    name, data = tensor.name, tensor.data
    part = name.split(".")[-2]
    if part not in MATRICES:
        return [(name, data.shape, data.dtype, tensor.tensor_type, lambda: data)]
    if not name.endswith(".weight"):
        raise SystemExit(f"experts: {name}: experts have no biases")
    stack = (name.replace(part, f"{part}_exps"), (options.experts, *data.shape), data.dtype, tensor.tensor_type,
             lambda: np.broadcast_to(data, (options.experts, *data.shape)))
    before = [router(name, options.experts, int(tensor.shape[0]), options.seed)] if part == "ffn_gate" else []
    return [*before, stack]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--experts", type=int, required=True, metavar="E")
    parser.add_argument("--top", type=int, required=True, metavar="K", help="used for a token")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not 1 <= options.top <= options.experts:
        raise SystemExit(f"experts: got {options.top} of {options.experts} experts, need 1 to {options.experts}")
    reader = gguf.GGUFReader(options.source)
    architecture = gguf_copy.value(reader, "general.architecture")
    if architecture != "llama" or any("_exps." in tensor.name for tensor in reader.tensors):
        raise SystemExit(f"experts: got architecture {architecture}, need a dense llama")
    writer = gguf.GGUFWriter(options.target, architecture)
    gguf_copy.copy_fields(reader, writer, skip={"llama.expert_count", "llama.expert_used_count"})
    writer.add_expert_count(options.experts)
    writer.add_expert_used_count(options.top)
    gguf_copy.write_streaming(writer, [made for tensor in reader.tensors for made in mixed(tensor, options)])


main()
