#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the programs that run in the kernel into bpf-src/build, those that are out of date.
# Other sources or flags, for tests: build-bpf.sh SOURCE_DIR BUILD_DIR [clang options]
set -eu
cd "$(dirname "$0")/.."
source=${1:-bpf-src}
build=${2:-bpf-src/build}
[ $# -lt 2 ] || shift 2
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || { echo "build-bpf: $clang not found; install the package clang" >&2; exit 1; }

mkdir -p "$build"
for file in "$source"/bpf_*.c; do
  object=$build/$(basename "$file" .c).o
  [ -e "$object" ] && [ -z "$(find "$file" "$source/lib" "$0" -newer "$object")" ] && continue
  # Headers of the C library want to know the machine; for a 32-bit one they need a file that is not installed.
  "$clang" -O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror \
    -D"__$(uname -m)__" -I"/usr/include/$(uname -m)-linux-gnu" "$@" -c "$file" -o "$object.new"
  mv "$object.new" "$object"
done
