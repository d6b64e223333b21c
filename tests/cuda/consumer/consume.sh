#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The fake driver as those have it who install pega: finds it in PREFIX, builds in WORK with CMAKE,
# GENERATOR, CC and FLAGS (what a sanitizer's build needs). Exit status 0: as it should be.
set -eu
here=$(dirname "$0")
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}
quietly() {
    "$@" >"$WORK/log" 2>&1 || {
        cat "$WORK/log" >&2
        fail "failed: $*"
    }
}
expect() { # expect TEXT PROGRAM...
    expected=$1
    shift
    got=$("$@" 2>&1) || fail "failed: $*: $got"
    case $got in
    *"$expected"*) ;;
    *) fail "$*: expected '$expected', got: $got" ;;
    esac
}

rm -rf "$WORK"
mkdir -p "$WORK"
quietly "$CMAKE" -S "$here" -B "$WORK/app" -G "$GENERATOR" "-DCMAKE_C_COMPILER=$CC" \
    "-DCMAKE_PREFIX_PATH=$PREFIX" ${FLAGS:+"-DCMAKE_C_FLAGS=$FLAGS"}
grep -q "^pega_DIR:PATH=$PREFIX/" "$WORK/app/CMakeCache.txt" || fail "found another pega"
quietly "$CMAKE" --build "$WORK/app"
folder=$(cat "$WORK/app/fake_driver_folder")
case $folder in
"$PREFIX"/*) ;;
*) fail "the fake driver is in $folder, not in $PREFIX" ;;
esac
# Nothing but the one library: a folder for LD_LIBRARY_PATH must not bring others along.
for file in "$folder"/*; do
    case ${file##*/} in
    libcuda.so.1) ;;
    *) fail "$folder holds ${file##*/}" ;;
    esac
done

# A whole process, that knows nothing of it.
expect "1 sm_90 Fake GPU 0" env -u PEGA_FAKE_DRIVER "LD_LIBRARY_PATH=$folder" "$WORK/app/engine"
expect "2 sm_80 Fake GPU 0" env PEGA_FAKE_DRIVER=devices=2,cc=8.0 "LD_LIBRARY_PATH=$folder" \
    "$WORK/app/engine"
! env PEGA_FAKE_DRIVER=nonsense=1 "LD_LIBRARY_PATH=$folder" "$WORK/app/engine" >"$WORK/said" ||
    fail "a machine that cannot be was modelled"
grep -q "cuInit failed (CUresult 999)" "$WORK/said" || fail "it says: $(cat "$WORK/said")"
# One that is linked with it.
expect " calls" "$WORK/app/steering"
