#!/usr/bin/env python3
"""Writes tokenizer/pretokens.txt: random texts and where the published patterns cut them, by the `regex` package.

Usage: make_pretokenizer_cases.py (needs: pip install regex)

Each line is the text in hexadecimal UTF-8 and, for gpt-2, smollm, llama-bpe and qwen2, the pre-tokens' lengths in bytes. Only characters that
Python knows are used (3.11: Unicode 14), since the libraries in use differ in what they know beyond; unassigned ones are among them where
no version will ever fill the place.
"""
import pathlib
import random
import sys
import unicodedata

import regex

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def cut(pattern, text):
    parts = regex.findall(pattern, text)
    assert "".join(parts) == text
    return parts


def cut_smollm(text):
    parts = [part for part in regex.split(r"(\p{N})", text, flags=regex.V1) if part]
    return [piece for part in parts for piece in ([part] if regex.fullmatch(r"\p{N}", part) else cut(GPT2, part))]


PATTERNS = [lambda t: cut(GPT2, t), cut_smollm, lambda t: cut(LLAMA3, t), lambda t: cut(QWEN2, t)]

by_class = {}
for code in range(0x110000):
    category = unicodedata.category(chr(code))
    if category not in ("Cn", "Cs"):
        by_class.setdefault(category, []).append(chr(code))
noncharacters = [chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)]  # unassigned for ever

SPACES = [" "] * 6 + ["\n"] * 4 + list("\t\r\v\f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\x1c\x1f\u200b\ufeff")
WORDS = ["Hello", "don't", "I'LL", "we'Re", "'s", "'S", "'\u017f", "'ve", "'d", "''", "'", "x'", "l'eau", "\u4f60\u597d", "\u043d\u0435\u0449\u043e",
         "\u0915\u094d\u0937\u093f", "e\u0301", "\U0001f600", "\U0001f468\u200d\U0001f469", "\U0001f32b\ufe0f", "123", "4567", "\u0663\u0664", "\u216b", "\u00bd", "\u00b2",
         "...", "!?", "->", "a1b2", "\r\n", "\n\n", "  ", "   ", "\u2581", "<|im_end|>"]


def piece(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 3])
    if kind < 0.65:
        return rng.choice(WORDS)
    if kind < 0.70:
        return rng.choice(noncharacters)
    if kind < 0.80:
        return chr(rng.randrange(0x20, 0x7F))
    return "".join(rng.choice(by_class[rng.choice(sorted(by_class))]) for _ in range(rng.choice([1, 1, 2, 4])))


def main():
    rng = random.Random(20240611)
    lines = []
    for _ in range(2000):
        text = "".join(piece(rng) for _ in range(rng.randrange(1, 12)))
        cuts = [",".join(str(len(part.encode())) for part in pattern(text)) for pattern in PATTERNS]
        lines.append(" ".join([text.encode().hex()] + cuts))
    out = pathlib.Path(__file__).parent / "tokenizer" / "pretokens.txt"
    out.write_text("\n".join(lines) + "\n")
    print(f"{out}: {len(lines)} texts, regex {regex.__version__}, characters of Unicode {unicodedata.unidata_version}", file=sys.stderr)


main()
