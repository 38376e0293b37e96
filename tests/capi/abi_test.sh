#!/usr/bin/env bash
# Whether the library still has the binary interface that capi/abi.txt records, and whether the C cases call all of it.
# abi_test.sh LAYOUT-PROGRAM LIBRARY RECORD CASES-FOLDER; with RECORD "-" it prints what the record should be.
set -euo pipefail
layout="$1" library="$2" record="$3" cases="$4"

current() {
  printf '# The binary interface of outrigger.h on 64-bit Linux: structs (size; field, offset, size) and exported functions.\n'
  printf '# A struct may only gain fields at its end, the list of functions may only grow. Regenerate: tests/capi/abi_test.sh ... - ...\n'
  "$layout"
  nm -D --defined-only "$library" | awk '$2 != "A" { print "function " $3 }' | LC_ALL=C sort
}

if [[ "$record" == "-" ]]; then
  current
  exit 0
fi
status=0
now="$(current)"
diff "$record" <(echo "$now") || { echo "the record ('<') and the library ('>') differ: if that is meant, write the record anew"; status=1; }
for function in $(echo "$now" | awk '$1 == "function" { sub(/@.*/, "", $2); print $2 }'); do
  grep -qwF "$function" "$cases"/*.c || { echo "no case calls $function"; status=1; }
done
# The layout program must know every struct that a caller fills or reads.
for struct in $(grep -ohE '\b(struct otr_[a-z_]+) \{' "$(dirname "$record")/../include/outrigger/outrigger.h" | awk '{ print $2 }'); do
  grep -qx "struct $struct [0-9]*" <<<"$now" || { echo "layout.c does not print $struct"; status=1; }
done
exit "$status"
