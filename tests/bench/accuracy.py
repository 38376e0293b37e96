#!/usr/bin/env python3
"""How far Outrigger and llama.cpp are from float32 on the same weights and the same text, per weight format. Standard library only.

For each file: `outrigger eval --reference-numerics float32`, and `llama-perplexity --kl-divergence` against a base that it wrote itself from
the file's weights in float32 (to_float32.py), with keys and values in float32. Both cut the text alike.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import models
import report

HERE = os.path.dirname(os.path.abspath(__file__))
# (name of the file, what it is called in the table)
FILES = (
    ("default-f16", "F16"), ("default-bf16", "BF16"), ("default-q8_0", "Q8_0"), ("default", "Q4_1 (the default model)"), ("default-q4_0", "Q4_0"),
    ("default-q5_0", "Q5_0"), ("default-q5_1", "Q5_1"), ("default-iq4_nl", "IQ4_NL"), ("hidden-iq4_xs", "IQ4_XS, rows of 2304"),
    ("hidden-mxfp4_moe", "MXFP4, rows of 2304"), ("hidden-q6_k", "Q6_K, rows of 2304"), ("hidden-q5_k", "Q5_K, rows of 2304"),
    ("hidden-q4_k", "Q4_K, rows of 2304"), ("hidden-q3_k", "Q3_K, rows of 2304"), ("hidden-q2_k", "Q2_K, rows of 2304"),
)


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"accuracy: `{' '.join(command)}` ended with {done.returncode}:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def ours(path, options):
    """outrigger eval's figures, in the fields of the table."""
    found = json.loads(run([options.outrigger, "eval", path, "--text", options.text, "--ctx", str(options.ctx), "--chunks", str(options.chunks),
                            "--threads", str(options.threads), "--reference-numerics", "float32", "--json"]))
    return {"kl": found["kl"]["mean"], "kl_error": found["kl"]["error"], "same_top": found["same_top"]["value"],
            "perplexity": found["perplexity"]["value"], "reference_perplexity": found["reference_perplexity"]["value"],
            "tokens": found["tokens_scored"]}


def peer_figures(text):
    """The same of what llama-perplexity prints."""
    def number(pattern):
        found = re.search(pattern, text)
        if not found:
            sys.exit(f"accuracy: llama-perplexity printed no line like {pattern}:\n{text[-2000:]}")
        return [float(value) for value in found.groups()]
    (kl, error), (top,) = number(r"Mean\s+KLD:\s*(-?[\d.]+)\s*±\s*([\d.]+)"), number(r"Same top p:\s*([\d.]+)")
    (perplexity,), (reference,) = number(r"Mean PPL\(Q\)\s*:\s*([\d.]+)"), number(r"Mean PPL\(base\)\s*:\s*([\d.]+)")
    return {"kl": kl, "kl_error": error, "same_top": top / 100, "perplexity": perplexity, "reference_perplexity": reference}


def peer(path, options, folder):
    exact, base = os.path.join(folder, "exact.gguf"), os.path.join(folder, "base")
    run([options.python, os.path.join(HERE, "to_float32.py"), path, exact])
    cut = ["-f", options.text, "-c", str(options.ctx), "--chunks", str(options.chunks), "-t", str(options.threads)]
    run([options.llama_perplexity, "-m", exact, *cut, "-ctk", "f32", "-ctv", "f32", "--kl-divergence-base", base])
    os.remove(exact)
    return peer_figures(run([options.llama_perplexity, "-m", path, *cut, "--kl-divergence-base", base, "--kl-divergence"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outrigger", required=True, metavar="TOOL")
    parser.add_argument("--llama-perplexity", required=True, metavar="TOOL")
    parser.add_argument("--model", required=True, metavar="FILE", help="the default model")
    parser.add_argument("--models", required=True, metavar="FOLDER", help="where models.py --group accuracy made the others")
    parser.add_argument("--python", default=sys.executable, help="one with numpy and gguf")
    parser.add_argument("--text", required=True, metavar="FILE", help="prose: --chunks of --ctx tokens of it are read")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--files", default=",".join(name for name, _ in FILES), help="names from models.py")
    parser.add_argument("--json", metavar="FILE", help="for report.py")
    options = parser.parse_args()
    titles, rows = dict(FILES), []
    for name in options.files.split(","):
        if name not in titles:
            parser.error(f"--files: no file {name}; there are {', '.join(titles)}")
        path = models.path(options.models, name, options.model)
        if not os.path.exists(path):
            parser.error(f"{name}: {path} is not there; tests/bench/models.py makes it")
        with tempfile.TemporaryDirectory(dir=options.models or None, prefix="accuracy.") as folder:
            rows.append({"name": name, "title": titles[name], "ours": ours(path, options), "peer": peer(path, options, folder)})
        print(f"{name}: KL {rows[-1]['ours']['kl']:.5f}, llama.cpp's {rows[-1]['peer']['kl']:.5f}", file=sys.stderr, flush=True)
    result = {"date": time.strftime("%Y-%m-%d"), "tokens": max(row["ours"]["tokens"] for row in rows), "text": os.path.basename(options.text),
              "rows": rows}
    print(report.accuracy_table(result))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=1)


if __name__ == "__main__":
    main()
