#!/usr/bin/env bash
# Builds Debian's oneTBB with ThreadSanitizer into FOLDER/tsan-tbb, once, and prints where: build_tsan_tbb.sh FOLDER
# Why: ThreadSanitizer cannot see the synchronisation inside a library it did not compile, so with Debian's own libtbb every hand-over between
# tasks looks like a race. Suppressing by library would hide our races inside tasks too; building it takes less than a minute on two cores.
set -euo pipefail
prefix="$1/tsan-tbb"
if [[ -f "$prefix/complete" ]]; then
  echo "$prefix"
  exit 0
fi
mkdir -p "$1"
work="$(mktemp -d "$1/tsan-tbb.XXXXXX")"
trap 'rm -rf "$work"' EXIT

{
  # The source package, without touching this machine's apt: its own sources with deb-src, and lists of our own.
  mkdir -p "$work/parts" "$work/lists/partial" "$work/archives/partial"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [[ ! -f "$file" ]] || sed -nE 's/^deb(-src)? /deb-src /p' "$file" >>"$work/parts/source.list"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ ! -f "$file" ]] || sed -E 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/$(basename "$file")"
  done
  apt=(apt-get -q -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts" -o "Dir::State::Lists=$work/lists" -o "APT::Sandbox::User=")
  "${apt[@]}" update
  (cd "$work" && "${apt[@]}" source --download-only onetbb)
  mkdir "$work/source"
  tar -xf "$work"/onetbb_*.orig.tar.* -C "$work/source" --strip-components=1

  cmake -S "$work/source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS=-fsanitize=thread \
    -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib -DTBB_TEST=OFF -DTBB_STRICT=OFF -DTBBMALLOC_BUILD=OFF
  cmake --build "$work/build"
  rm -rf "$prefix"
  cmake --install "$work/build"
  touch "$prefix/complete"
} </dev/null >&2
echo "$prefix"
