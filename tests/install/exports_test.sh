#!/usr/bin/env bash
# What the C library shows and what it asks for: exports_test.sh LIBRARY HEADER-FOLDER
# It exports each function its header declares and nothing else, and links to nothing that ends the process, prints, or changes its state.
set -euo pipefail
library="$1" include="$2"
status=0

[[ "$(objdump -p "$library" | awk '$1 == "SONAME" { print $2 }')" == liboutrigger_c.so.0 ]] || { echo "wrong SONAME"; status=1; }

# The preprocessor takes the comments out, where functions are named too.
declared="$(printf '#include <outrigger/outrigger.h>\n' | "${CC:-cc}" -I "$include" -E -P - | grep -oE '\botr_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u)"
exported="$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u)"
[[ -n "$declared" ]] || { echo "no function found in outrigger.h"; exit 1; }
diff <(echo "$declared") <(echo "$exported") || { echo "the left ('<') are declared and not exported, the right exported and not declared"; status=1; }

# std::terminate is left out: the compiler calls it for a noexcept function and for a joinable std::thread.
forbidden='abort|exit|_exit|_Exit|quick_exit|__assert_fail|raise|kill|signal|sigaction|printf|__printf_chk|vprintf|puts|putchar|perror'
forbidden+='|stdout|stderr|_ZSt4cout|_ZSt4cerr|_ZSt4clog|setlocale|chdir|setenv|putenv|unsetenv|umask|fesetround|fesetenv|system|fork'
if nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' | grep -xE "$forbidden"; then
  echo "the library must not use the names above"
  status=1
fi
exit "$status"
