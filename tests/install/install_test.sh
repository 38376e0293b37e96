#!/usr/bin/env bash
# The package as its users meet it: install, move the tree elsewhere, then build and run every example against it, with CMake and with
# pkg-config. Usage: install_test.sh CMAKE SOURCE_DIR BUILD_DIR; the model is OUTRIGGER_MODEL.
set -euo pipefail
cmake="$1" source="$2" build="$3"
: "${OUTRIGGER_MODEL:?the examples need a model: set it to the path ./bootstrap model prints}"
work="$build/install_test"
rm -rf "$work"
mkdir -p "$work"

fail() { printf 'FAILED: %s\n' "$*"; exit 1; }
step() { printf '\n== %s\n' "$*"; }

step "install and move"
"$cmake" --install "$build" --prefix "$work/first" >"$work/install.log"
prefix="$work/moved/elsewhere"
mkdir -p "$work/moved"
mv "$work/first" "$prefix"
if grep -rlF -e "$build" -e "$source" -e "$work/first" --include='*.cmake' --include='*.pc' "$prefix"; then
  fail "the files above name paths of the machine that built them"
fi
diff <(ls "$prefix/include/outrigger") <({ ls "$source/include/outrigger"; echo version.h; } | LC_ALL=C sort) ||
  fail "the installed headers are not those of include/outrigger"
"$prefix/bin/outrigger" --version
has_cuda=no
if "$prefix/bin/outrigger" --version | grep -q 'CUDA: yes'; then has_cuda=yes; fi

libraries="$(dirname "$(find "$prefix" -name 'liboutrigger_c.so.0')")"
export PKG_CONFIG_PATH="$libraries/pkgconfig"

# configure NAME [CMAKE-ARGUMENT...] <CMakeLists.txt: configures a project of a few lines against the installed tree.
configure() {
  local name="$1"
  shift
  mkdir -p "$work/$name"
  { printf 'cmake_minimum_required(VERSION 3.25)\n'; cat; } >"$work/$name/CMakeLists.txt"
  "$cmake" -S "$work/$name" -B "$work/$name/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" "$@" >"$work/$name.log" 2>&1
}

step "find_package says what there is and what there is not"
configure both <<'END' || { cat "$work/both.log"; fail "find_package without components"; }
project(both LANGUAGES C CXX)
find_package(outrigger 0.1 CONFIG REQUIRED)
if(NOT TARGET outrigger::outrigger OR NOT TARGET outrigger::c)
  message(FATAL_ERROR "both targets were to be defined")
endif()
END
configure c_only <<'END' || { cat "$work/c_only.log"; fail "the C component in a project without C++"; }
project(c_only LANGUAGES C)
find_package(outrigger CONFIG REQUIRED COMPONENTS c)
if(TARGET outrigger::outrigger OR TARGET TBB::tbb)
  message(FATAL_ERROR "the C component alone must not look for what the C++ library needs")
endif()
END
configure later <<'END' && fail "a version that is not there was found"
project(later LANGUAGES CXX)
find_package(outrigger 0.2 CONFIG REQUIRED)
END
configure missing <<'END' && fail "a component that is not there was found"
project(missing LANGUAGES CXX)
find_package(outrigger CONFIG REQUIRED COMPONENTS core abacus)
END
names_missing() { tr -s ' \n' ' ' <"$work/$1.log" | grep -qF "no component '$2'" || { cat "$work/$1.log"; fail "the missing component is not named"; }; }
names_missing missing abacus

step "the CUDA backend, built: $has_cuda"
configure cuda <<'END' && found_cuda=yes || found_cuda=no
project(cuda LANGUAGES CXX)
find_package(outrigger CONFIG REQUIRED COMPONENTS core cuda)
if(NOT outrigger_cuda_FOUND OR NOT TARGET outrigger::cuda)
  message(FATAL_ERROR "the component was found and is not there")
endif()
END
[[ "$found_cuda" == "$has_cuda" ]] || { cat "$work/cuda.log"; fail "found as a component: $found_cuda"; }
[[ "$has_cuda" == yes ]] || names_missing cuda cuda
configure cuda_asked -DHAS_CUDA="$has_cuda" <<'END' || { cat "$work/cuda_asked.log"; fail "asking whether the component is there"; }
project(cuda_asked LANGUAGES CXX)
find_package(outrigger CONFIG REQUIRED COMPONENTS core OPTIONAL_COMPONENTS cuda)
if((HAS_CUDA AND NOT outrigger_cuda_FOUND) OR (outrigger_cuda_FOUND AND NOT HAS_CUDA))
  message(FATAL_ERROR "outrigger_cuda_FOUND is '${outrigger_cuda_FOUND}'")
endif()
END
# No machine has so many GPUs: what is said tells whether the shared object was found from where it is now.
status=0
said="$("$prefix/bin/outrigger" run "$OUTRIGGER_MODEL" -p a -n 1 --device cuda:9999 2>&1)" || status=$?
[[ "$status" == 14 ]] || fail "--device cuda:9999 ended with $status: $said"
printf '%s\n' "$said"
if [[ "$has_cuda" == yes ]]; then
  ! grep -qF 'there is no liboutrigger_cuda.so' <<<"$said" || fail "the installed shared object was not found"
else
  grep -qF "$prefix" <<<"$said" || fail "the message does not say where it looked"
fi

step "add_subdirectory brings the library and nothing else"
configure inside -DOUTRIGGER_SOURCE="$source" <<'END' || { cat "$work/inside.log"; fail "add_subdirectory"; }
project(inside LANGUAGES C CXX)
add_subdirectory(${OUTRIGGER_SOURCE} outrigger)
if(NOT TARGET outrigger::outrigger OR NOT TARGET outrigger::c)
  message(FATAL_ERROR "both targets were to be defined")
endif()
if(TARGET outrigger_tool OR TARGET otr_test_main)
  message(FATAL_ERROR "the tool and the tests belong to the top level only")
endif()
END

# run NAME COMMAND...: the command ends well and prints some text.
run() {
  local name="$1"
  shift
  "$@" >"$work/$name.out" || fail "$name ended with $?"
  grep -q '[[:alpha:]]' "$work/$name.out" || fail "$name printed no text"
  printf '%s: %s\n' "$name" "$(head -c 300 "$work/$name.out" | tr '\n' ' ')"
}

found=0
for example in "$source"/examples/[0-9]*/; do
  name="$(basename "$example")"
  found=$((found + 1))
  step "$name"
  if [[ -f "$example/CMakeLists.txt" ]]; then
    { "$cmake" -S "$example" -B "$work/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" &&
      "$cmake" --build "$work/$name"; } >"$work/$name.log" 2>&1 || { cat "$work/$name.log"; fail "$name does not build with CMake"; }
    program="$(find "$work/$name" -maxdepth 1 -type f -perm -u+x)"
    [[ -n "$program" ]] || fail "$name built no program"
    run "$name" "$program" "$OUTRIGGER_MODEL"
  fi
  case "$name" in
    *_cpp)
      # shellcheck disable=SC2046  # pkg-config prints words
      "${CXX:-c++}" -std=c++20 -Wall -Wextra -Werror "$example"/*.cc -o "$work/$name.pc" $(pkg-config --cflags --libs outrigger)
      run "$name.pkg-config" env LD_LIBRARY_PATH="$libraries" "$work/$name.pc" "$OUTRIGGER_MODEL"
      ;;
    *_c)
      # shellcheck disable=SC2046
      "${CC:-cc}" -std=c99 -Wall -Wextra -Werror "$example"/*.c -o "$work/$name.pc" $(pkg-config --cflags --libs outrigger-c)
      run "$name.pkg-config" env LD_LIBRARY_PATH="$libraries" "$work/$name.pc" "$OUTRIGGER_MODEL"
      ;;
    *_python)
      run "$name" env LD_LIBRARY_PATH="$libraries" python3 "$example"/*.py "$OUTRIGGER_MODEL"
      ;;
  esac
  compgen -G "$work/$name*.out" >/dev/null || fail "$name was not run: neither CMakeLists.txt nor a known kind"
done
[[ "$found" -ge 3 ]] || fail "only $found examples under $source/examples; C++, C and Python are promised"
printf '\n%d examples built and ran against the moved tree\n' "$found"
