#!/usr/bin/env python3
"""Logits of the default model (SmolLM2-135M-Instruct, Q4_1) by transformers in float32 on the dequantised weights.

make_default_logits.py MODEL.gguf tests/golden/logits/default.logits    Needs numpy, gguf, torch, transformers.
The sequences are random ids, text-like ids and one long run of both: ids only, so that no tokenizer takes part. Every 96th column is kept.
"""
import sys

import numpy as np

import logits_oracle


def main():
    model = logits_oracle.load(sys.argv[1])
    vocabulary = model.config.vocab_size
    rng = np.random.default_rng(7)
    # "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n" and on, as the model's own tokenizer has it.
    chat = [1, 4093, 198, 1780, 314, 12920, 47, 2, 198, 1, 520, 9531, 198]
    likely = rng.zipf(1.2, 600) % vocabulary
    sequences = []
    for tokens in (chat, rng.integers(0, vocabulary, 40).tolist(), likely.tolist()):
        rows = logits_oracle.logits(model, tokens)
        positions = sorted({int(p) for p in np.linspace(0, len(tokens) - 1, 12)})
        sequences.append((tokens, positions, rows[positions]))
    logits_oracle.write(sys.argv[2], sequences, list(range(0, vocabulary, 96)))


main()
