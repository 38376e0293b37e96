#!/usr/bin/env bash
# Tests and measures the CUDA backend on this machine's GPU: run_on_gpu.sh [--programs FOLDER] [--out FOLDER] [PART...]
#
# Parts, in this order unless some are named, each within ten minutes and most within one:
#   tests       the contract of all backends, and the bits of the host at every placement of a model's parts and of a draft
#   sanitizers  compute-sanitizer's memcheck, racecheck, synccheck and initcheck over the contract
#   kernels     the products' rates, as fractions of the memory's measured one
#   model       a random llama of 8 billion parameters in 4 and in 3 bits: resident, and streamed with a quarter of it on the card
#   turns       how long host and device take for a turn, many of them, and models whose layers the host computes in part or corrects
#
# Without --programs they are built here, which needs nvcc and what ./bootstrap installs. For a machine that has neither:
#   run_on_gpu.sh --gather FOLDER    builds here what can be carried there, with the libraries that a bare system lacks
# A FOLDER named .tar.xz is a file, a quarter as large, for --gather and --programs alike.
# Results are printed and, with --out, kept as files. The model is written to $TMPDIR or /tmp: 5 GB.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build="$root/build/release"
programs_built=(decode/device_session_test decode/device_draft_test decode/speculation_test cuda/gpu/gpu_backend_test cuda/gpu/make_random_llama cuda/gpu/operation_bench cuda/gpu/product_bench)
programs="" out="" parts=()

die() { printf 'run_on_gpu: %s\n' "$*" >&2; exit 1; }

build_programs() {
  cmake --build "$build" --target cuda_on_gpu >&2 || die "the programs could not be built; run ./bootstrap build first"
}

# gather FOLDER: the programs and what they are linked to beyond the C and C++ libraries, in one folder or packed into one file.
gather() {
  local folder="$1" program
  build_programs
  [[ "$1" != *.tar.xz ]] || folder="$(mktemp -d "${TMPDIR:-/tmp}/outrigger-gpu.XXXXXX")"
  mkdir -p "$folder"
  cp "$build/bin/outrigger" "$build/lib/liboutrigger_cuda.so" "${programs_built[@]/#/$build/tests/}" "$folder"
  for program in outrigger device_session_test; do
    ldd "$folder/$program" | awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl|librt)\.so/ { print $3 }'
  done | sort -u | xargs -r cp -t "$folder"
  (cd "$folder" && strip outrigger "${programs_built[@]##*/}")
  if [[ "$1" == *.tar.xz ]]; then
    tar -C "$folder" -cJf "$1.part" .
    mv -f "$1.part" "$1"
    rm -rf "$folder"
  fi
}

while [[ $# -gt 0 ]]; do
  case "$1" in
    --programs) programs="$2"; shift 2 ;;
    --out) out="$2"; shift 2 ;;
    --gather) gather "$2"; exit 0 ;;
    -h | --help) sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | grep '^#' | cut -c3-; exit 0 ;;
    tests | sanitizers | kernels | model | turns) parts+=("$1"); shift ;;
    *) die "got '$1'; see --help" ;;
  esac
done
[[ ${#parts[@]} -gt 0 ]] || parts=(tests sanitizers kernels model turns)
if [[ -z "$programs" ]]; then
  gather "$root/build/gpu"
  programs="$root/build/gpu"
fi
if [[ "$programs" == *.tar.xz ]]; then
  unpacked="$(mktemp -d "${TMPDIR:-/tmp}/outrigger-gpu.XXXXXX")"
  trap 'rm -rf "$unpacked"' EXIT
  tar -C "$unpacked" -xJf "$programs"
  programs="$unpacked"
fi
programs="$(cd "$programs" && pwd)"
export LD_LIBRARY_PATH="$programs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OUTRIGGER_CUDA_LIBRARY="$programs/liboutrigger_cuda.so"
[[ -z "$out" ]] || mkdir -p "$out"
failures=0

# step NAME COMMAND...: prints what it says, keeps it, and goes on if it fails.
step() {
  local name="$1" started=$SECONDS status=0
  shift
  printf '\n=== %s\n' "$name"
  if [[ -n "$out" ]]; then
    "$@" 2>&1 | tee "$out/${name// /_}.txt" || status=$?
  else
    "$@" 2>&1 || status=$?
  fi
  printf -- '--- %s: %s, %d s\n' "$name" "$([[ "$status" -eq 0 ]] && echo ok || echo "FAILED ($status)")" "$((SECONDS - started))"
  [[ "$status" -eq 0 ]] || failures=$((failures + 1))
}

run_tests() {
  step "contract" "$programs/gpu_backend_test"
  OUTRIGGER_CUDA_GRAPHS=0 step "contract without graphs" "$programs/gpu_backend_test"
  # They look for their files where they were built: on another machine $root must have the same path, or a link to it there.
  OUTRIGGER_TEST_DEVICE=cuda step "placements" "$programs/device_session_test"
  OUTRIGGER_CUDA_GRAPHS=0 OUTRIGGER_TEST_DEVICE=cuda step "placements without graphs" "$programs/device_session_test"
  OUTRIGGER_CUDA_HANDOFF=0 OUTRIGGER_TEST_DEVICE=cuda step "placements without handoffs" "$programs/device_session_test"
  OUTRIGGER_TEST_DEVICE=cuda step "drafts on the card" "$programs/device_draft_test"
  OUTRIGGER_TEST_DEVICE=cuda step "speculation" "$programs/speculation_test" "Speculation: the same where steps of many tokens stream to a device*"
}

run_sanitizers() {
  local tool
  for tool in memcheck racecheck synccheck initcheck; do
    step "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$programs/gpu_backend_test" "GPU: keeps the contract of operations"
  done
}

run_kernels() {
  step "products" "$programs/product_bench" O4 O3 O2 Q4_1 Q4_K Q6_K Q8_0
  step "operations" "$programs/operation_bench"
}

run_model() {
  local bits model folder
  folder="$(mktemp -d "${TMPDIR:-/tmp}/outrigger-gpu.XXXXXX")"
  for bits in 4 3; do
    model="$folder/random-8b-$bits-bit.gguf"
    "$programs/make_random_llama" "$model" "$bits"
    step "8B in $bits bits, resident" "$programs/outrigger" bench "$model" --device cuda --progress none -p 512 -n 64 --verify 4,8,16 --repeat 3
    OUTRIGGER_CUDA_GRAPHS=0 step "8B in $bits bits, resident, without graphs" "$programs/outrigger" bench "$model" --device cuda --progress none -p 512 -n 64 --repeat 3
    step "8B in $bits bits, 1.2 GiB on the card" "$programs/outrigger" bench "$model" --device cuda --device-budget 1200MiB --progress none -p 512 -n 16 --verify 4,8,16 --repeat 2 --predict
    rm -f "$model"
  done
  rm -rf "$folder"
}

# Each by words and by copies. The profiles are kept apart from this machine's own, since what is measured of a turn is in them.
run_turns() {
  local folder handoff
  folder="$(mktemp -d "${TMPDIR:-/tmp}/outrigger-gpu.XXXXXX")"
  step "a million turns" "$programs/gpu_backend_test" "GPU: a million handoffs*"
  "$programs/make_random_llama" "$folder/plain.gguf" 4
  "$programs/make_random_llama" "$folder/corrected.gguf" 3 32 128
  for handoff in 1 0; do
    export OUTRIGGER_CUDA_HANDOFF="$handoff" OUTRIGGER_CACHE="$folder/cache-$handoff"
    step "profile, handoffs $handoff" "$programs/outrigger" profile --device cuda --again
    step "8B, a part at home, handoffs $handoff" "$programs/outrigger" bench "$folder/plain.gguf" --device cuda --device-budget 3GiB --progress none -p 64 -n 32 --verify 4,8,16 --repeat 3 --predict
    step "8B corrected, handoffs $handoff" "$programs/outrigger" bench "$folder/corrected.gguf" --device cuda --branch-on host --progress none -p 64 -n 64 --verify 4,8 --repeat 3 --predict
  done
  unset OUTRIGGER_CUDA_HANDOFF OUTRIGGER_CACHE
  rm -rf "$folder"
}

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader || die "there is no GPU here"
for part in "${parts[@]}"; do "run_$part"; done
[[ "$failures" -eq 0 ]] || die "$failures steps failed"
