#!/usr/bin/env bash
# Outrigger beside llama.cpp on this machine, same file, same threads: builds the peer from the vendored source in the llama-cpp-python
# package of the Python index, once, into the cache, and hands over to compare_llamacpp.py. `./bootstrap bench` calls it.
#
#   compare_llamacpp.sh --outrigger TOOL --model FILE [--cache FOLDER] [--tools] [options of compare_llamacpp.py]
#
# LLAMA_BIN=FOLDER takes the peer's programs from there instead. LLAMA_CPP_PYTHON=VERSION builds another version.
# --tools also builds llama-perplexity, llama-quantize, llama-completion and llama-simple, prints where they are, and stops.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
version="${LLAMA_CPP_PYTHON:-0.3.36}"
cache="${OUTRIGGER_CACHE:-${HOME:-/root}/.cache/outrigger}"
tools=""
rest=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --cache) cache="$2"; shift 2 ;;
    --tools) tools=yes; shift ;;
    *) rest+=("$1"); shift ;;
  esac
done

say() { printf '==> %s\n' "$*" >&2; }

# Unpacks the package into $peer/source; leaves nothing half done.
fetch_peer() {
  local folder
  folder="$(mktemp -d "$peer/fetch.XXXXXX")"
  say "fetching llama-cpp-python $version"
  # pip asks the source package for its metadata; that needs a build helper, which pip fetches for the moment.
  python3 -m pip download --quiet --disable-pip-version-check --no-input --no-cache-dir --no-deps --no-binary :all: --dest "$folder" \
    "llama-cpp-python==$version" </dev/null >&2 ||
    { rm -rf "$folder"; say "llama-cpp-python $version could not be fetched; with a llama.cpp of your own, set LLAMA_BIN to its bin folder"; return 1; }
  mkdir "$folder/source"
  # -m: a time stamp ahead of this machine's clock would make ninja configure for ever.
  tar -xmf "$folder"/llama_cpp_python-*.tar.gz -C "$folder/source" --strip-components=1
  mv "$folder/source" "$peer/source"
  rm -rf "$folder"
}

# build_peer TARGET...: as its own documentation says, for this very machine; without what only its server and downloads need.
build_peer() {
  mkdir -p "$peer"
  [[ -d "$peer/source" ]] || fetch_peer
  say "building llama.cpp of llama-cpp-python $version: $*"
  # The commit it takes for its own must not be that of a repository around the cache.
  GIT_CEILING_DIRECTORIES="$peer/source/vendor" cmake -S "$peer/source/vendor/llama.cpp" -B "$peer/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_IS_DEV=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
    </dev/null >"$peer/configure.log" 2>&1 || { cat "$peer/configure.log" >&2; return 1; }
  cmake --build "$peer/build" --target "$@" </dev/null >&2
}

if [[ -n "${LLAMA_BIN:-}" ]]; then
  bin="$LLAMA_BIN"
  built="llama.cpp found in LLAMA_BIN"
else
  peer="$cache/llama-cpp-python-$version"
  bin="$peer/build/bin"
  targets=(llama-bench)
  [[ -z "$tools" ]] || targets+=(llama-perplexity llama-quantize llama-completion llama-simple)
  build_peer "${targets[@]}"
  # The package's change log names the commit it carries.
  commit="$(sed -nE "/^## \[$version\]/,/^## \[/ s/.*llama\.cpp@([0-9a-f]+).*/\1/p" "$peer/source/CHANGELOG.md" | head -n 1)"
  built="llama.cpp ${commit:-(commit not stated)}, from llama-cpp-python $version, $("${CC:-cc}" --version | head -n 1)"
fi

if [[ -n "$tools" ]]; then
  echo "$bin"
  exit 0
fi
exec python3 "$here/compare_llamacpp.py" --llama-bench "$bin/llama-bench" --built "$built" "${rest[@]}"
