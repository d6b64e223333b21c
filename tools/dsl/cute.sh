#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cute.sh PYTHON OUT_DIR: compile kernels/cute with CuTe DSL and link the modules, with no GPU.
# PYTHON is an interpreter that the packages of tools/python/cute.txt are installed in. OUT_DIR gets the
# objects, indexer_tvm_ffi.so, and indexer_c.so with its signature file.
set -eu
if [ $# -ne 2 ]; then
    echo "usage: $0 PYTHON OUT_DIR" >&2
    exit 2
fi
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
mkdir -p "$2"
out=$(CDPATH='' cd -- "$2" && pwd)
python=$(command -v "$1") || {
    echo "cute.sh: $1: there is no such Python" >&2
    exit 1
}
"$python" "$root/tools/dsl/cute_build.py" "$out"
generator=
if command -v ninja >/dev/null 2>&1; then
    generator=-GNinja
fi
# A build folder of another Python or of another checkout is no good.
rm -rf "$out/cmake"
# shellcheck disable=SC2086 # nothing, where there is no ninja
if ! cmake -S "$root/kernels/cute" -B "$out/cmake" $generator -DCMAKE_BUILD_TYPE=Release \
    -DCUTE_OBJECTS="$out" -DPEGA_CUTE_PYTHON="$python" >"$out/cmake.log" 2>&1 ||
    ! cmake --build "$out/cmake" >>"$out/cmake.log" 2>&1; then
    cat "$out/cmake.log" >&2
    exit 1
fi
ls -l "$out/indexer_tvm_ffi.so" "$out/indexer_c.so"
