#!/usr/bin/env bash
# What the CUDA backend's shared object shows and what it asks for: cuda_exports_test.sh LIBRARY
# It exports one function, and needs no CUDA to be loaded: the driver is looked for when a GPU is asked for.
set -euo pipefail
library="$1"
status=0

exported="$(nm -D --defined-only "$library" | awk '{ print $3 }')"
[[ "$exported" == outrigger_cuda_open ]] || { echo "exported: $exported"; status=1; }
if objdump -p "$library" | awk '$1 == "NEEDED" { print $2 }' | grep -iE 'cuda|cublas|outrigger|tbb'; then
  echo "the shared object must not need the above"
  status=1
fi
exit "$status"
