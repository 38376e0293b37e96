#!/usr/bin/env python3
"""A model larger than memory with a draft model, beside llama.cpp with the same one: draft_peer.py --outrigger TOOL [--llama FOLDER] --model FILE.gguf --draft FILE.gguf
--limit MIB --humaneval FILE.jsonl [--draft-lengths 4 8 16] [--tokens 48] [--rounds 3] [--more="--draft-shape chain"] [--document FILE.md]

As root, on a machine whose memory cgroups may be made: each run in one of the limit, the page cache dropped before; our budget is the limit less 24 MiB. FOLDER has llama-completion and
llama-speculative-simple; without it our columns alone are there. --more: options for our runs with the draft. One round runs, on prose and on a function to complete: both programs plain, ours with the draft and with n-grams, theirs with the draft at each length. Greedy. Our tokens
must be equal in all runs of a prompt. Rates are those of decoding. Standard library only.
"""
import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import limits
import tables

PROSE = "The history of the lighthouse began when sailors needed"
CONTEXT_TOKENS = 512


def profile(options):
    """The disk as it is now, and this machine's profile for plans."""
    limits.drop_caches()
    done = subprocess.run([options.outrigger, "profile", "--again", "--disk", options.model, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["disk_bytes_busy"]["per_s"]


def ours(options, prompt_file, draft):
    limits.drop_caches()
    command = [options.outrigger, "run", options.model, "-f", prompt_file, "-n", str(options.tokens), "--ctx", str(CONTEXT_TOKENS), "--host-budget", f"{options.limit - limits.OUTSIDE_MIB}MiB",
               "--ignore-eos", "--temp", "0", "--draft", draft, "--json", "--progress", "none"]
    if draft == options.draft:
        command += shlex.split(options.more)
    with limits.Group(options.limit) as group:
        return json.loads(group.run(command))


def theirs(options, prompt_file, length):
    """Tokens a second; length 0: without a draft."""
    limits.drop_caches()
    common = ["-m", options.model, "-f", prompt_file, "-n", str(options.tokens if length else options.tokens // 2), "-c", str(CONTEXT_TOKENS), "--temp", "0", "-t", str(os.cpu_count()),
              "--ignore-eos"]
    if length:
        command = [os.path.join(options.llama, "llama-speculative-simple"), *common, "-md", options.draft, "--spec-type", "draft-simple", "--spec-draft-n-max", str(length)]
        wanted = r"decoded\s+\d+ tokens in\s+[0-9.]+ seconds, speed:\s+([0-9.]+)"
    else:
        command = [os.path.join(options.llama, "llama-completion"), *common, "-no-cnv"]
        wanted = r"\n\S*.*?\beval time =.*?runs.*?([0-9.]+) tokens per second"
    with limits.Group(options.limit) as group:
        def enter():
            group.write("cgroup.procs", os.getpid())
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", preexec_fn=enter)
    found = re.search(wanted, done.stderr + done.stdout)
    if done.returncode != 0 or not found:
        sys.exit(f"draft_peer: `{' '.join(command)}` ended with {done.returncode}:\n{done.stderr[-1500:]}")
    return float(found.group(1))


def measure(options, name, prompt):
    rates = {draft: [] for draft in ("none", options.draft, "ngram", *((0, *options.draft_lengths) if options.llama else ()))}
    texts, passes, shares = set(), [], []
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(prompt)
        file.flush()
        for _ in range(options.rounds):
            disk = profile(options)
            for draft in rates:
                if isinstance(draft, int):
                    rates[draft].append(theirs(options, file.name, draft))
                    continue
                result = ours(options, file.name, draft)
                rates[draft].append(result["timings"]["decode_tokens_per_s"])
                texts.add(tuple(result["tokens"]))
                if draft == options.draft:
                    spoken = result["speculation"]
                    passes.append(spoken["tokens_per_pass"])
                    read = result["streamed"]["disk_bytes"] / (spoken["passes"] + 1)  # the prompt is one more
                    shares.append(rates[draft][-1] / (spoken["tokens_per_pass"] * disk / read))
    if len(texts) != 1:
        sys.exit(f"draft_peer: {name}: {len(texts)} different texts, want one")
    at = {draft: statistics.median(found) for draft, found in rates.items()}
    peer = " | | | "
    if options.llama:
        best = max(options.draft_lengths, key=lambda length: at[length])
        peer = f"{at[0]:.2f} | {at[best]:.2f} ({best}) | {at[options.draft] / at[best]:.1f}x | {at[options.draft] / at[0]:.1f}x"
    return (f"| {name} | {at['none']:.2f} | {at[options.draft]:.2f} | {statistics.median(passes):.2f} | {at['ngram']:.2f} | {peer} | "
            f"{100 * statistics.median(shares):.0f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outrigger", "model", "draft", "humaneval"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--llama")
    parser.add_argument("--more", default="")
    parser.add_argument("--limit", type=int, required=True, help="MiB, of the whole process")
    parser.add_argument("--draft-lengths", type=int, nargs="+", default=[4, 8, 16], help="of llama.cpp, which gets its best")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--document")
    options = parser.parse_args()
    with open(options.humaneval, encoding="utf-8") as file:
        code = json.loads(next(file))["prompt"]
    lines = [f"{time.strftime('%Y-%m-%d')}, {os.path.basename(options.model)} in {options.limit} MiB with {os.path.basename(options.draft)}; {options.tokens} tokens, medians of {options.rounds} rounds.", "",
             "| text | plain | draft model | tokens a pass | n-grams | llama.cpp plain | with the draft (its best length) | ratio | to its plain | of tokens a pass x disk / bytes |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, prompt in (("prose", PROSE), ("code", code)):
        lines.append(measure(options, name, prompt))
        print(lines[-1], flush=True)
    if options.document:
        tables.replace(options.document, "drafts table", "\n".join(lines))


if __name__ == "__main__":
    main()
