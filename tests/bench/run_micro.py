#!/usr/bin/env python3
"""Runs the microbenchmarks and keeps their results, and how busy the machine was meanwhile: run_micro.py MICROBENCH OUT.json [options]"""
import json
import subprocess
import sys

import busy


def main():
    tool, out, *words = sys.argv[1:]
    others = busy.OtherWork()
    done = subprocess.run([tool, f"--benchmark_out={out}", "--benchmark_out_format=json", *words], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if done.returncode != 0:
        sys.exit(f"run_micro: {tool} ended with {done.returncode}")
    with open(out, encoding="utf-8") as source:
        result = json.load(source)
    result.update(others_share=others.share(), shortened=bool(words))
    with open(out, "w", encoding="utf-8") as target:
        json.dump(result, target, indent=1)


main()
