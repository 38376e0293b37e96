#!/usr/bin/env bash
# Each public header compiles alone and twice, without a warning; the C API's in every C and C++ it promises. headers_test.sh FOLDER...
set -euo pipefail
first="$1"
flags=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only)
for folder in "$@"; do flags+=(-I "$folder"); done
count=0

# compile LANGUAGE STANDARD HEADER
compile() {
  local compiler="${CC:-cc}"
  [[ "$1" == c ]] || compiler="${CXX:-c++}"
  # The last line: C forbids a unit that declares nothing, and version.h has macros only.
  printf '#include <outrigger/%s>\n#include <outrigger/%s>\ntypedef int declared;\n' "$3" "$3" | "$compiler" "${flags[@]}" -std="$2" -x "$1" - ||
    { echo "FAILED: $3 as $2"; exit 1; }
  count=$((count + 1))
}

for header in outrigger.h version.h; do
  for standard in c99 c11 c17; do compile c "$standard" "$header"; done
  for standard in c++17 c++20; do compile c++ "$standard" "$header"; done
done
for header in "$first"/outrigger/*.h; do compile c++ c++20 "$(basename "$header")"; done
echo "$count compilations"
