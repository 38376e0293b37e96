#!/usr/bin/env bash
# Everything that proves the speed, as `./bootstrap bench` calls it: microbenchmarks, the comparison with llama.cpp, accuracy per format.
#
#   bench.sh --outrigger TOOL --microbench TOOL --model FILE --cache FOLDER [options below]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="" model="" outrigger="" microbench="" parts="" all="" text="" document="" chart="" quick="" rest=()

usage() {
  cat <<'END'
./bootstrap bench [OPTION...]
  --micro            the microbenchmarks alone: kernels as fractions of peaks (4 minutes)
  --compare          the comparison with llama.cpp alone
  --accuracy TEXT    KL and perplexity per weight format beside llama.cpp's on that text, alone; makes models, 5 GB while it works
  --all-models       compare ten model files and both programs at AVX2, not the default model alone: 5.5 GB of disk, 2.7 GB more meanwhile
  --document FILE    rewrite the tables of that document, e.g. docs/benchmarks.md
  --chart FILE       draw the comparison, e.g. docs/benchmarks.svg
  --quick            few and short runs, to see that everything works; the figures say that they do not count
  others go to tests/bench/compare_llamacpp.py: --cases A,B --rounds N --threads N --check
Without --micro, --compare or --accuracy: both of the first two. The peer is built into the cache once (a quarter of an hour); results are kept there in bench/*.json.
END
}

while [[ $# -gt 0 ]]; do
  case "$1" in
    --cache) cache="$2"; shift 2 ;;
    --model) model="$2"; shift 2 ;;
    --outrigger) outrigger="$2"; shift 2 ;;
    --microbench) microbench="$2"; shift 2 ;;
    --micro | --compare) parts+=" ${1#--}"; shift ;;
    --accuracy) parts+=" accuracy"; text="$2"; shift 2 ;;
    --all-models) all=yes; shift ;;
    --document) document="$2"; shift 2 ;;
    --chart) chart="$2"; shift 2 ;;
    --quick) quick=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) rest+=("$1"); shift ;;
  esac
done
parts="${parts:- micro compare}"
out="$cache/bench"
mkdir -p "$out"
python="$out/venv/bin/python"

# peer [OPTION...]: sets bin and built.
peer() {
  local said
  said="$("$here/peer.sh" --cache "$cache" "$@")"
  { read -r bin && read -r built; } <<<"$said"
}

# A Python with numpy and gguf, in the cache.
need_python() {
  "$python" -c 'import gguf, numpy' 2>/dev/null && return 0
  rm -rf "$out/venv"
  python3 -m venv "$out/venv"
  "$python" -m pip install --quiet --disable-pip-version-check --no-input numpy gguf </dev/null >&2 ||
    { printf 'bench.sh: numpy and gguf could not be fetched for %s\n' "$python" >&2; exit 1; }
}

# report OPTION...: into the document and the chart, where they were asked for.
report() {
  [[ -n "$document$chart" ]] || return 0
  python3 "$here/report.py" "$@" ${document:+--document "$document"}
}

if [[ "$parts" == *micro* ]]; then
  python3 "$here/run_micro.py" "$microbench" "$out/micro.json" ${quick:+--benchmark_filter='stream|peak|barrier|Q4_1'}
  python3 "$here/report.py" --micro "$out/micro.json"
  report --micro "$out/micro.json"
fi

if [[ "$parts" == *compare* ]]; then
  options=()
  if [[ -n "$all" ]]; then
    need_python
    peer --avx2
    options+=(--llama-bench-avx2 "$bin/llama-bench" --cases all --models "$out/models")
    peer --tools
    python3 "$here/models.py" --model "$model" --folder "$out/models" --quantize "$bin/llama-quantize" --python "$python"
  else
    peer
  fi
  [[ -z "$quick" ]] || options+=(--rounds 1 --longest-prompt 32 --longest-generation 8)
  python3 "$here/compare_llamacpp.py" --outrigger "$outrigger" --llama-bench "$bin/llama-bench" --built "$built" --microbench "$microbench" \
    --model "$model" --json "$out/comparison.json" "${options[@]}" "${rest[@]}"
  report --comparison "$out/comparison.json" ${chart:+--chart "$chart"}
fi

if [[ "$parts" == *accuracy* ]]; then
  need_python
  peer --tools
  python3 "$here/models.py" --model "$model" --folder "$out/models" --quantize "$bin/llama-quantize" --python "$python" --group accuracy
  python3 "$here/accuracy.py" --outrigger "$outrigger" --llama-perplexity "$bin/llama-perplexity" --model "$model" --models "$out/models" \
    --python "$python" --text "$text" --json "$out/accuracy.json" ${quick:+--chunks 1 --ctx 256}
  report --accuracy "$out/accuracy.json"
fi
