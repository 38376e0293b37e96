#!/usr/bin/env python3
"""Writes tokenizer/smollm.json and tokenizer/chat.json: the default model's tokens by the `tokenizers` package, and chat layouts by Jinja.

Usage: make_tokenizer_cases.py SmolLM2-135M-Instruct.Q4_1.gguf (needs: pip install gguf tokenizers jinja2)

The tokenizer is put together from the file's vocabulary and merges as the model's own tokenizer.json has it: every digit alone, then the
GPT-2 pattern, no unknown token. Texts are vocab/cases.inp and random ones; bytes that the vocabulary has no token for do not occur in them.
The Jinja programs other than those of model files are written for this purpose: they lay a conversation out as the published ones do.
"""
import json
import pathlib
import random
import sys

import gguf
import jinja2
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).parent

SYSTEM = {"role": "system", "content": "Answer in one word."}
USER = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris"}
AGAIN = {"role": "user", "content": "And of Italy, in 2024?"}
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ANSWER, AGAIN], [SYSTEM, USER, ANSWER, AGAIN],
                 [{"role": "user", "content": "  spaces at both ends \n"}], [{"role": "user", "content": "\n\nx"}],
                 [{"role": "user", "content": ""}], [SYSTEM, {"role": "user", "content": "na\u00efve \U0001f999 \u4f60\u597d"}]]

LLAMA2 = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for message in (messages[1:] if system else messages) %}"
    "{% if message['role'] == 'user' %}"
    "{% set text = ('<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if system and loop.first else '') + message['content'] %}"
    "{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")
LLAMA31 = (
    "{% set given = messages[0]['role'] == 'system' %}"
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{{ 'Cutting Knowledge Date: December 2023\\nToday Date: ' + (date_string or '26 Jul 2024') + '\\n\\n' }}"
    "{{ (messages[0]['content'] | trim if given else '') + '<|eot_id|>' }}"
    "{% for message in (messages[1:] if given else messages) %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}")
MISTRAL_V1 = (
    "{{ bos_token }}{% set system = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for message in (messages[1:] if system else messages) %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}")
MISTRAL_V3 = (
    '{{ bos_token }}{% set system_message = messages[0]["content"] if messages[0]["role"] == "system" else "" %}'
    '{% for message in (messages[1:] if system_message else messages) %}{% if message["role"] == "user" %}'
    '{% if loop.last and system_message %}{{ "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}'
    '{% else %}{{ "[INST] " + message["content"] + "[/INST]" }}{% endif %}'
    '{% else %}{{ " " + message["content"] | trim + eos_token }}{% endif %}{% endfor %}')
ZEPHYR = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% elif message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% else %}{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}" + CHATML)


def render(program, messages):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(program).render(messages=messages, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")


def build_tokenizer(tokens, types, merges):
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def random_texts(rng, count):
    words = ["the", "The", " quick", " brown", "fox's", " can't", "isn't", "12", "3.14", "2024-06-11", "\n", "\n\n", "  ", "\t", " ", "   ", "==", "->",
             "()", "{}", "::", "...", "!", "?!", "\u00e9t\u00e9", "\u00fcber", "\u043f\u0440\u0438\u0432\u0435\u0442", "\u4f60\u597d", "\u3053\u3093",
             "\U0001f680", "\U0001f469\u200d\U0001f4bb", "e\u0301", "\u2014", "\u201cq\u201d", "x1y2", "CamelCase", "snake_case", "def f(x):", "'ll", "'S",
             "\u00bd", "\u0663", "\r\n", "\u00a0", "\u200b", "xyzzy", "aaaaaaa", "http://a.b/c?d=e"]
    return ["".join(rng.choice(words) for _ in range(rng.randrange(1, 30))) for _ in range(count)]


def main():
    reader = gguf.GGUFReader(sys.argv[1])
    field = lambda key: reader.fields[key].contents()
    tokens = field("tokenizer.ggml.tokens")
    tokenizer = build_tokenizer(tokens, field("tokenizer.ggml.token_type"), field("tokenizer.ggml.merges"))
    program = field("tokenizer.chat_template")

    texts = (HERE / "vocab" / "cases.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    texts = [text for text in texts if text] + random_texts(random.Random(7), 200)
    cases = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]
    assert all(tokenizer.decode(case["ids"], skip_special_tokens=False) == case["text"] for case in cases)
    write("smollm.json", {"tokenizers": tokenizers.__version__, "cases": cases})

    own = [{"messages": c, "text": render(program, c), "ids": tokenizer.encode(render(program, c), add_special_tokens=False).ids}
           for c in CONVERSATIONS]
    programs = {"chatml": CHATML, "smollm": program, "qwen": QWEN, "llama-2": LLAMA2, "llama-3": LLAMA3, "llama-3.1": LLAMA31,
                "mistral": MISTRAL_V1, "mistral-v3": MISTRAL_V3, "zephyr": ZEPHYR}
    layouts = [{"name": name, "program": text, "conversations": [{"messages": c, "text": render(text, c)} for c in CONVERSATIONS]}
               for name, text in programs.items()]
    write("chat.json", {"jinja2": jinja2.__version__, "layouts": layouts, "default_model": own})


def write(name, content):
    path = HERE / "tokenizer" / name
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace('},{"text"', '},\n{"text"') + "\n", encoding="utf-8")
    print(path, file=sys.stderr)


main()
