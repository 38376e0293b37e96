#!/usr/bin/env bash
# Builds llama.cpp for comparisons, from the vendored source in the llama-cpp-python package of the Python index, once, into the cache.
# Prints the folder of its programs and, on a second line, what it is.
#
#   peer.sh [--cache FOLDER] [--avx2] [--tools]
#
# --avx2 builds llama-bench for AVX2 instead of for this very machine. --tools also builds llama-perplexity, llama-quantize, llama-imatrix,
# llama-completion, llama-simple and llama-speculative-simple. LLAMA_BIN=FOLDER (with --avx2: LLAMA_BIN_AVX2) takes the programs from there instead.
# LLAMA_CPP_PYTHON=VERSION builds another version.
set -euo pipefail
version="${LLAMA_CPP_PYTHON:-0.3.36}"
cache="${OUTRIGGER_CACHE:-${HOME:-/root}/.cache/outrigger}"
targets=(llama-bench)
build=build
# As its own documentation says for this very machine.
level=(-DGGML_NATIVE=ON)
found="${LLAMA_BIN:-}" name=LLAMA_BIN
while [[ $# -gt 0 ]]; do
  case "$1" in
    --cache) cache="$2"; shift 2 ;;
    --avx2)
      build=build-avx2 found="${LLAMA_BIN_AVX2:-}" name=LLAMA_BIN_AVX2
      level=(-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON)
      shift
      ;;
    --tools) targets+=(llama-perplexity llama-quantize llama-imatrix llama-completion llama-simple llama-speculative-simple); shift ;;
    *) printf 'peer.sh: got %s, need --cache FOLDER, --avx2 or --tools\n' "$1" >&2; exit 2 ;;
  esac
done

if [[ -n "$found" ]]; then
  for target in "${targets[@]}"; do
    [[ -x "$found/$target" ]] || { printf 'peer.sh: %s=%s has no %s\n' "$name" "$found" "$target" >&2; exit 1; }
  done
  printf '%s\n%s\n' "$found" "llama.cpp found in $name"
  exit 0
fi

say() { printf '==> %s\n' "$*" >&2; }
peer="$cache/llama-cpp-python-$version"

# Unpacks the package into $peer/source; leaves nothing half done.
fetch_peer() {
  local folder
  folder="$(mktemp -d "$peer/fetch.XXXXXX")"
  say "fetching llama-cpp-python $version"
  # pip asks the source package for its metadata; that needs a build helper, which pip fetches for the moment.
  python3 -m pip download --quiet --disable-pip-version-check --no-input --no-cache-dir --no-deps --no-binary :all: --dest "$folder" \
    "llama-cpp-python==$version" </dev/null >&2 ||
    { rm -rf "$folder"; say "llama-cpp-python $version could not be fetched; with a llama.cpp of your own, set $name to its bin folder"; return 1; }
  mkdir "$folder/source"
  # -m: a time stamp ahead of this machine's clock would make ninja configure for ever.
  tar -xmf "$folder"/llama_cpp_python-*.tar.gz -C "$folder/source" --strip-components=1
  # It names a repository that is not there, and ninja would configure for ever over that too.
  rm -f "$folder/source/vendor/llama.cpp/.git"
  mv "$folder/source" "$peer/source"
  rm -rf "$folder"
}

mkdir -p "$peer"
[[ -d "$peer/source" ]] || fetch_peer
say "building llama.cpp of llama-cpp-python $version (${level[*]}): ${targets[*]}"
# The commit it takes for its own must not be that of a repository around the cache.
GIT_CEILING_DIRECTORIES="$peer/source/vendor" cmake -S "$peer/source/vendor/llama.cpp" -B "$peer/$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  "${level[@]}" -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_IS_DEV=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
  </dev/null >"$peer/configure.log" 2>&1 || { cat "$peer/configure.log" >&2; exit 1; }
cmake --build "$peer/$build" --target "${targets[@]}" </dev/null >&2
# The package's change log names the commit it carries.
commit="$(sed -nE "/^## \[$version\]/,/^## \[/ s/.*llama\.cpp@([0-9a-f]+).*/\1/p" "$peer/source/CHANGELOG.md" | head -n 1)"
printf '%s\n%s\n' "$peer/$build/bin" \
  "llama.cpp ${commit:-(commit not stated)}, from llama-cpp-python $version, $("${CC:-cc}" --version | head -n 1)"
