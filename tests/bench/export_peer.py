#!/usr/bin/env python3
"""An exported model in llama.cpp beside the compressed one in Outrigger: perplexity of a text, and how far each is from float32.

export_peer.py --outrigger TOOL --llama-perplexity TOOL --text TEXT (--compressed FILE.gguf | --model FILE.gguf --calibration TEXT...)
               [--chunks 14] [--document FILE.md]

Both programs cut the text alike, the second half of each piece is scored, and llama.cpp runs with --lora for the branches. float32 is Outrigger's
own arithmetic on the compressed file; its logits and those that llama-perplexity writes (16 bits each, 16 nats deep) are compared here, token by
token. Per 1000 tokens of a vocabulary of 49,152 that takes 500 MB of disk for a while, and a minute. Standard library only.
"""
import argparse
import array
import json
import math
import operator
import os
import struct
import subprocess
import sys
import tempfile
import time

import report


def run(command):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"export_peer: `{' '.join(command)}` ended with {done.returncode}:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def take(file, kind, count):
    values = array.array(kind)
    content = file.read(values.itemsize * count)
    if len(content) != values.itemsize * count:
        sys.exit(f"export_peer: {file.name} ends too early")
    values.frombytes(content)
    return values


class PeerLogits:
    """What `llama-perplexity --kl-divergence-base` wrote: the text's tokens, then of each scored token scale, least, and what is scaled."""

    def __init__(self, path):
        self.file = open(path, "rb")
        if self.file.read(8) != b"_logits_":
            sys.exit(f"export_peer: {path} is no file of llama-perplexity's")
        self.context, self.vocabulary, self.chunks = struct.unpack("<iii", self.file.read(12))
        self.tokens = take(self.file, "i", self.chunks * self.context)

    def answers(self):
        for chunk in range(self.chunks):
            yield from self.tokens[chunk * self.context + self.context // 2 + 1:(chunk + 1) * self.context]

    def rows(self):
        """Log probabilities; what is further than 16 nats below the largest stands at that."""
        for _ in range(self.chunks * (self.context - 1 - self.context // 2)):
            scale, least = take(self.file, "f", 2)
            codes = take(self.file, "H", 2 * ((self.vocabulary + 1) // 2))[:self.vocabulary]
            yield [least + scale * code for code in codes]


def own_rows(path):
    """Log probabilities of an .npy file of float32 logits [tokens, vocabulary]."""
    with open(path, "rb") as file:
        length, = struct.unpack("<H", file.read(10)[8:])
        description = file.read(length).decode()
        shape = [int(part) for part in description.split("'shape': (")[1].split(")")[0].split(",")]
        for _ in range(shape[0]):
            logits = take(file, "f", shape[1])
            top = max(logits)
            log_sum = top + math.log(sum(map(math.exp, [value - top for value in logits])))
            yield [value - log_sum for value in logits]


def estimate(samples):
    """Mean and its standard error."""
    count, mean = len(samples), sum(samples) / len(samples)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in samples) / count / max(count - 1, 1))


def perplexity(nll):
    mean, error = estimate(nll)
    return math.exp(mean), math.exp(mean) * error


def distance(exact, peer):
    """KL of one token's predictions from the exact ones, in nats."""
    probabilities = list(map(math.exp, exact))
    return sum(map(operator.mul, probabilities, exact)) - sum(map(operator.mul, probabilities, peer))


def compare(exact_rows, rows, answers):
    """Of predictions beside the exact ones: perplexity, KL, and the share that have the same most likely token."""
    nll, kl, same = [], [], 0
    for exact, row, answer in zip(exact_rows, rows, answers, strict=True):
        nll.append(-row[answer])
        kl.append(distance(exact, row))
        same += max(range(len(exact)), key=exact.__getitem__) == max(range(len(row)), key=row.__getitem__)
    return {"perplexity": perplexity(nll), "kl": estimate(kl), "same_top": same / len(kl), "tokens": len(kl)}


def one_row(options, folder, compressed, branch, model, lora):
    """Both programs with or without the branches, and float32."""
    exact, own, base = (os.path.join(folder, name) for name in ("exact.npy", "own.npy", "base"))
    evaluation = [options.outrigger, "eval", compressed, "--text", options.text, "--ctx", options.ctx, "--chunks", options.chunks, "--branch", branch,
                  "--threads", options.threads, "--progress", "none", "--json"]
    figures = {numerics: json.loads(run([*evaluation, "--numerics", numerics, "--logits", path]))
               for numerics, path in (("float32", exact), ("fast", own))}
    run([options.llama_perplexity, "-m", model, *lora, "-f", options.text, "-c", options.ctx, "--chunks", options.chunks, "-t", options.threads,
         "--kl-divergence-base", base])
    peer = PeerLogits(base)
    row = {"exact": figures["float32"]["perplexity"], "Outrigger": compare(own_rows(exact), own_rows(own), peer.answers()),
           "llama.cpp": compare(own_rows(exact), peer.rows(), peer.answers())}
    # Our own count, from our own tokens: that it is the same says that the text was cut and scored alike.
    counted, told = row["Outrigger"]["perplexity"][0], figures["fast"]["perplexity"]["value"]
    if abs(counted / told - 1) > 1e-6:
        sys.exit(f"export_peer: by llama.cpp's tokens Outrigger's perplexity is {counted}, by its own {told}")
    for path in (exact, own, base):
        os.remove(path)
    return row


def make_table(options, folder):
    compressed = options.compressed
    if compressed is None:
        compressed = os.path.join(folder, "compressed.gguf")
        calibration = [word for text in options.calibration for word in ("--calibration", text)]
        run([options.outrigger, "compress", options.model, "-o", compressed, "--bits", options.bits, "--branch-budget", options.branch_budget, "--form", "low-rank",
             *calibration, "--threads", options.threads, "--progress", "none"])
    backbone, adapter = os.path.join(folder, "backbone.gguf"), os.path.join(folder, "adapter.gguf")
    exported = json.loads(run([options.outrigger, "export", compressed, "--backbone", backbone, "--adapter", adapter, "--json", "--progress", "none"]))
    rows = [("backbone and adapter", one_row(options, folder, compressed, "all", backbone, ["--lora", adapter])),
            ("backbone alone", one_row(options, folder, compressed, "none", backbone, []))]
    return table(rows, exported, options.text)


def table(rows, exported, text):
    size = {name: f"{value / 1e6:.1f} MB" for name, value in exported["bytes"].items()}
    lines = [f"{time.strftime('%Y-%m-%d')}, {rows[0][1]['llama.cpp']['tokens']} tokens of {os.path.basename(text)}; "
             f"compressed {size['input']}, backbone {size['backbone']}, adapter {size['adapter']}.", "",
             "| | perplexity | KL from float32, nats | same most likely token |", "|---|---|---|---|"]
    for name, row in rows:
        lines.append(f"| {name}: float32 | {row['exact']['value']:.3f} +- {row['exact']['error']:.3f} | | |")
        for who in ("Outrigger", "llama.cpp"):
            figures = row[who]
            cells = "{:.3f} +- {:.3f} | {:.5f} +- {:.5f} | {:.1f} %".format(*figures["perplexity"], *figures["kl"], 100 * figures["same_top"])
            lines.append(f"| {name}: {who} | {cells} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True, metavar="TOOL")
    parser.add_argument("--llama-perplexity", required=True, metavar="TOOL")
    parser.add_argument("--text", required=True, metavar="FILE", help="--chunks of --ctx tokens of it are read")
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--compressed", metavar="FILE", help="one that `outrigger compress` wrote, with low-rank branches")
    made.add_argument("--model", metavar="FILE", help="one to compress first")
    parser.add_argument("--calibration", action="append", default=[], metavar="FILE")
    parser.add_argument("--bits", default="2")
    parser.add_argument("--branch-budget", default="0.42bpw")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=14)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--document", help="a file whose table between the markers is replaced")
    options = parser.parse_args()
    if options.model and not options.calibration:
        parser.error("--model needs --calibration")
    with tempfile.TemporaryDirectory(prefix="export_peer.") as folder:
        text = make_table(options, folder)
    print(text)
    if options.document:
        with open(options.document, encoding="utf-8") as file:
            document = report.between(file.read(), "exported table", text, options.document)
        with open(options.document, "w", encoding="utf-8") as file:
            file.write(document)


if __name__ == "__main__":
    main()
