"""Tiny tokenizers of the kinds that the families use, as the `tokenizers` package runs them and as GGUF files describe them.

Used by make_families.py. Needs tokenizers.
"""
import collections
import dataclasses
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from make_bad_gguf import byte_characters

# What the merges are learned from.
TEXT = """A small boat with an outrigger crosses the lagoon. The float is light, the hull is narrow, and together they carry what neither
could carry alone. On the other shore people are waiting with rope, water and 12 baskets of fruit; in 1999 there were 7, and in 2024 there
were 365. "Is there room for one more?" they're asking. It isn't far: there and back again before the sun is down, if the wind holds.
def carry(hull, float_):
    return hull.load + float_.load
\u00dcber das Wasser, \u00e0 l'eau, \u043f\u043e \u0432\u043e\u0434\u0435, \u6c34\u306e\u4e0a.
"""

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def chatml_with(system):
    return "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\n" + system + "<|im_end|>\\n' }}{%- endif %}" + CHATML


LLAMA3_CHAT = ("{{ bos_token }}{% for message in messages %}"
               "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")
MISTRAL_CHAT = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
                "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}")
ZEPHYR_CHAT = ("{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + eos_token + '\\n' }}"
               "{% else %}{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}{% endif %}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}")

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclasses.dataclass
class TinyTokenizer:
    tokenizer: Tokenizer
    kind: str            # tokenizer.ggml.model
    pre: str             # tokenizer.ggml.pre
    types: list          # of every token
    bos: str | None
    eos: str
    add_bos: bool
    chat: str            # the template program
    chat_name: str       # what it is recognised as

    @property
    def tokens(self):
        return [text for text, _ in sorted(self.tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])]

    @property
    def merges(self):
        merges = json.loads(self.tokenizer.to_str())["model"]["merges"]
        return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def learn_merges(words, count):
    """The `count` most frequent pairs of symbols, one after the other; of equally frequent ones the first in order of text."""
    words = collections.Counter(tuple(word) for word in words)
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = collections.Counter()
        for word, times in words.items():
            symbols, i = [], 0
            while i < len(word):
                joined = word[i:i + 2] == best
                symbols.append("".join(word[i:i + 2]) if joined else word[i])
                i += 2 if joined else 1
            merged[tuple(symbols)] += times
        words = merged
    return merges


def byte_level(pre, specials, marks=(), bos=None, eos=None, merges=60, chat=CHATML, chat_name="chatml"):
    """Byte-level BPE with the pre-tokenizer of that GGUF name. `specials` come last, then `marks`: added, but not special."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre == "smollm")
    first = {"smollm": lambda: pre_tokenizers.Digits(individual_digits=True),
             "llama-bpe": lambda: pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
             "qwen2": lambda: pre_tokenizers.Split(Regex(QWEN2), "isolated")}[pre]()
    pre_tokenizer = pre_tokenizers.Sequence([first, level])
    learned = learn_merges([word for word, _ in pre_tokenizer.pre_tokenize_str(TEXT)], merges)
    vocabulary = {text: i for i, text in enumerate([*byte_characters().values(), *("".join(pair) for pair in learned)])}
    assert len(vocabulary) == 256 + merges
    tokenizer = Tokenizer(models.BPE(vocabulary, learned, ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in marks])
    if bos and pre == "llama-bpe":
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    types = [NORMAL] * len(vocabulary) + [CONTROL] * len(specials) + [USER_DEFINED] * len(marks)
    return TinyTokenizer(tokenizer, "gpt2", pre, types, bos, eos, pre == "llama-bpe", chat, chat_name)


def sentencepiece(merges=40, chat=ZEPHYR_CHAT, chat_name="zephyr"):
    """Llama 2's kind: BPE over characters with a mark for spaces, bytes for what has no token."""
    space = "\u2581"
    words = [space + word for word in TEXT.split()]
    learned = learn_merges(words, merges)
    characters = sorted({character for word in words for character in word if character < "\u0400" or character == space})
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["".join(pair) for pair in learned] + characters  # a lower id is the better merge
    pieces = [piece for piece in pieces if all(character in characters for character in piece)]
    vocabulary = {text: i for i, text in enumerate(tokens + pieces)}
    # Every way to put a piece together, in order of the pieces: what a converted SentencePiece model lists.
    pairs = [(piece[:i], piece[i:]) for piece in pieces for i in range(1, len(piece)) if piece[:i] in vocabulary and piece[i:] in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(pieces)
    return TinyTokenizer(tokenizer, "llama", "", types, "<s>", "</s>", True, chat, chat_name)
