#!/usr/bin/env python3
"""Turns the results of the benchmarks into the tables of a document, between its markers, and into a chart. Standard library only.

report.py [--comparison JSON] [--micro JSON] [--accuracy JSON] --document FILE [--chart FILE]
"""
import argparse
import json
import os
import re
import sys

import chart
import targets

# Above this share of the processors' time during the run, other work hits the two programs' waiting threads very differently. The load before
# the start is not asked: it is mostly that of the build and of the benchmarks that ran just before.
BUSY_SHARE = 0.05


def reasons_against(result):
    """Why figures do not count: a list of clauses, empty when it does."""
    reasons = []
    if result["others_share"] > BUSY_SHARE:
        reasons.append(f"other work took {result['others_share']:.0%} of the processors")
    if result.get("shortened"):
        reasons.append("the run was shortened to try things out")
    return reasons


def warning(reasons):
    return f" NOT FAIR FIGURES: {'; '.join(reasons)}." if reasons else ""


def comparison_table(result):
    reasons = reasons_against(result)
    own = f", which calls itself build {result['peer_build']}" if "unknown" not in result["peer_build"] and result["peer_build"] != " ()" else ""
    lines = [f"{result['threads']} threads, {result['processor']}, {result['date']}; {result['rounds_each']} rounds in turns, medians, ratio with "
             f"its range.{warning(reasons)}",
             f"Peer: {result['peer']}{own}.", "",
             "| model | test | Outrigger, tokens/s | llama.cpp, tokens/s | ratio | of a bare read | needed | |",
             "|---|---|---|---|---|---|---|---|"]
    previous = None
    for row in result["rows"]:
        case = targets.find_case(row["case"])
        need = case.needs.get(row["test"])
        name = targets.TESTS[row["test"]] + (f" of {row['tokens']}" if row["test"] in ("tg", "pp") else "")
        judged = "not judged" if reasons and row["verdict"] else row["verdict"]
        lines.append(f"| {case.title if case.name != previous else ''} | {name} | {row['ours']:.1f} | {row['peer']:.1f} | "
                     f"{row['ratio']:.2f}x ({row['ratio_min']:.2f}-{row['ratio_max']:.2f}) | "
                     f"{format(row['fraction'], '.0%') if row['fraction'] is not None else ''} | {need.text() if need else ''} | {judged} |")
        previous = case.name
    return "\n".join(lines)


def micro_table(document):
    """What is needed beside what was measured, then every kind at every number of tokens, and every kind over cold weights."""
    rows = targets.micro_rows(document["benchmarks"])
    busy = reasons_against(document)
    lines = [f"{document['context']['date'][:10]}.{warning(busy)}", "", "| what | needed | least | most | |", "|---|---|---|---|---|"]
    for need in targets.MICRO:
        values = [value for _, value, of in rows if of is need and value is not None]
        if values:
            shown = (lambda v: f"{v:.2f} us") if need.at_most else (lambda v: f"{v:.2f}x") if need.counter == "speedup" else (lambda v: f"{v:.0%}")
            met = sum(need.is_met(value) for value in values)
            judged = "not judged" if busy else "met" if met == len(values) else f"{met} of {len(values)} met"
            lines.append(f"| {need.title} | {need.text()} | {shown(min(values))} | {shown(max(values))} | {judged} |")
    lines += _matrix(document["benchmarks"], r"gemm/(avx512|avx2|none)/(\w+)/.*/tokens:(\d+)/threads:(\d+)",
                     "Products of 4096 x 4096 weights, by tokens: fraction of the peak of what the kernel multiplies", int)
    lines += _matrix(document["benchmarks"], r"gemv_cold/(avx512|avx2|none)/(\w+)/(\d+x\d+)/threads:(\d+)",
                     "One token over weights that no cache holds, by rows x columns: fraction of a bare read", str)
    return "\n".join(lines)


def _matrix(benchmarks, pattern, title, order):
    """Kinds, levels and threads down, the pattern's third group across."""
    cells, columns = {}, set()
    for benchmark in benchmarks:
        found = re.fullmatch(pattern, targets.row_name(benchmark))
        if found and "fraction" in benchmark:
            level, kind, column, threads = found.groups()
            cells.setdefault((level, kind, threads), {})[column] = benchmark["fraction"]
            columns.add(column)
    if not cells:
        return []
    across = sorted(columns, key=order)
    lines = ["", f"{title}.", "", "| | threads | " + " | ".join(across) + " |", "|---|---|" + "---|" * len(across)]
    for (level, kind, threads), row in cells.items():
        shown = " | ".join(f"{row[column]:.0%}" if column in row else "" for column in across)
        lines.append(f"| {kind}{'' if level == 'avx512' else f' ({level})'} | {threads} | {shown} |")
    return lines


def accuracy_table(result):
    lines = [f"{result['tokens']} scored tokens at most, {result['date']}.", "",
             "| weights | Outrigger: mean KL | same top | perplexity beside float32's | llama.cpp: mean KL | same top | perplexity beside float32's |",
             "|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        sides = [f"{side['kl']:.5f} +- {side['kl_error']:.5f} | {side['same_top']:.1%} | {side['perplexity']:.3f} "
                 f"({side['perplexity'] / side['reference_perplexity'] - 1:+.2%})" for side in (row["ours"], row["peer"])]
        lines.append(f"| {row['title']} | {' | '.join(sides)} |")
    return "\n".join(lines)


def between(text, name, table, path):
    """`text` with the table between the markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        sys.exit(f"report: {path} needs one line {begin} and, below it, one line {end}")
    return f"{text.split(begin)[0]}{begin}\n{table}\n{end}{text.split(end)[1]}"


def write(path, text):
    """The file as it was, or whole."""
    with open(path + ".new", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparison", metavar="JSON", help="of compare_llamacpp.py")
    parser.add_argument("--micro", metavar="JSON", help="of run_micro.py")
    parser.add_argument("--accuracy", metavar="JSON", help="of accuracy.py")
    parser.add_argument("--document", metavar="FILE", help="whose tables are rewritten, e.g. docs/benchmarks.md")
    parser.add_argument("--chart", metavar="FILE", help="of the comparison, e.g. docs/benchmarks.svg")
    options = parser.parse_args()
    tables = {}
    for name, path, table in (("llama.cpp table", options.comparison, comparison_table), ("microbenchmarks", options.micro, micro_table),
                              ("accuracy per format", options.accuracy, accuracy_table)):
        if path:
            with open(path, encoding="utf-8") as source:
                result = json.load(source)
            tables[name] = table(result)
            if options.chart and path == options.comparison:
                write(options.chart, chart.svg(result["rows"], warning(reasons_against(result)).strip()))
                where = os.path.relpath(options.chart, os.path.dirname(options.document or options.chart) or ".")
                tables[name] = f"![Speed beside llama.cpp]({where})\n\n{tables[name]}"
    if not options.document:
        print("\n\n".join(tables.values()))
        return
    with open(options.document, encoding="utf-8") as document:
        text = document.read()
    for name, table in tables.items():
        text = between(text, name, table, options.document)
    write(options.document, text)


if __name__ == "__main__":
    main()
