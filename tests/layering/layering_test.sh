#!/usr/bin/env bash
# The layering check finds exactly the includes planted in bad/ and none in good/: layering_test.sh CMAKE CHECK
set -euo pipefail
cmake="$1" check="$2"
cd "$(dirname "${BASH_SOURCE[0]}")"
"$cmake" -DSOURCE_DIR="$PWD/good" -P "$check"
if output="$("$cmake" -DSOURCE_DIR="$PWD/bad" -P "$check" 2>&1)"; then
  echo "the planted includes were not found"
  exit 1
fi
# One line a violation: "  FILE: HEADER: why"; a folder without a line in the table has no header.
diff expected.txt <(sed -nE 's/^ +((include|src|capi|examples)\/.*)/bad: \1/p' <<<"$output" | sed -E 's/^(bad: [^:]+: [^:]+): .*/\1/' | LC_ALL=C sort)
