#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# module.sh SOURCE BUILD WORK CC GENERATOR: pega_cute_module of an installed pega, with stand-ins for what
# CuTe DSL and CUDA make: what it links, and what it refuses.
set -eu
LC_ALL=C
export LC_ALL
source=$1 build=$2 work=$3 cc=$4 generator=$5

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

rm -rf "$work"
mkdir -p "$work"
cmake --install "$build" --prefix "$work/prefix" >"$work/install.log" 2>&1 || {
    cat "$work/install.log" >&2
    fail "pega could not be installed"
}
for part in CUDART DIALECT OBJECT NEWER ABORTS PLAIN; do
    "$cc" -std=c11 -Wall -Wextra -Werror -fPIC -O1 -D$part -c "$source/module/stand_ins.c" -o "$work/$part.o"
done
ar rcs "$work/libcudart_static.a" "$work/CUDART.o"
ar rcs "$work/libcuda_dialect_runtime_static.a" "$work/DIALECT.o"

number=0
make_module() { # make_module NAME ARGUMENTS [OPTION...]: its output goes to $log
    number=$((number + 1))
    log=$work/$number.log
    name=$1 arguments=$2
    shift 2
    status=0
    { cmake -G "$generator" -S "$source/module" -B "$work/$number" -DCMAKE_C_COMPILER="$cc" \
        -DCMAKE_PREFIX_PATH="$work/prefix" -DMODULE_NAME="$name" "-DMODULE_ARGUMENTS=$arguments" \
        -DPEGA_CUTE_DIALECT_LIBRARY="$work/libcuda_dialect_runtime_static.a" \
        -DPEGA_CUTE_CUDART_LIBRARY="$work/libcudart_static.a" "$@" &&
        cmake --build "$work/$number"; } >"$log" 2>&1 || status=$?
    module=$work/$number/$name.so
}
works() {
    make_module "$@"
    [ $status -eq 0 ] || {
        cat "$log" >&2
        fail "$1 was not made"
    }
}
refused() { # refused TEXT NAME ARGUMENTS [OPTION...]
    text=$1
    shift
    make_module "$@"
    [ $status -ne 0 ] || fail "'$2' was made, expected a refusal with '$text'"
    # CMake breaks lines and indents them.
    tr -s ' \n' ' ' <"$log" | grep -qF -e "$text" || {
        cat "$log" >&2
        fail "the refusal of '$2' does not say '$text'"
    }
    [ ! -f "$module" ] || fail "$module was refused and is there"
}
shows() { nm -D --defined-only "$module" | awk '{ print $NF }' | sort | tr '\n' ' '; }

works object "OBJECTS;$work/OBJECT.o"
[ "$(shows)" = "__tvm_ffi_object " ] || fail "the module shows $(shows), expected __tvm_ffi_object"
nm -D --undefined-only "$module" | grep -q ' TVMFFIErrorSetRaisedFromCStrParts$' ||
    fail "the module does not leave TVM FFI's functions to the process"

works engine "KIND;c;OBJECTS;$work/PLAIN.o;SOURCES;$source/module/stand_ins.c;EXPORTS;engine_object" \
    -DCMAKE_C_FLAGS=-DSHIM
[ "$(shows)" = "engine_object " ] || fail "the module shows $(shows), expected engine_object"

refused "CuteDSLRT_NotOfThisRelease (imported by NEWER.o)" newer "OBJECTS;$work/NEWER.o"
refused "its release is newer than this pega knows" newer "OBJECTS;$work/NEWER.o"
refused "cuda_dialect_assert_success, which answers a CUDA error by printing" aborts "OBJECTS;$work/ABORTS.o"
refused "Objects compiled with --enable-tvm-ffi need KIND tvm_ffi" kind \
    "KIND;c;OBJECTS;$work/OBJECT.o;EXPORTS;__tvm_ffi_object"
refused "names in EXPORTS what it shows" exports "KIND;c;OBJECTS;$work/PLAIN.o"
refused "KIND is 'cubin'" wrong "KIND;cubin;OBJECTS;$work/PLAIN.o"
refused "no OBJECTS" none "KIND;c"
refused "unknown arguments: object.o" unknown "object.o"
refused "missing.o is not there" missing "OBJECTS;$work/missing.o"
refused "libcuda_dialect_runtime_static.a not found: set PEGA_CUTE_PYTHON" library "OBJECTS;$work/OBJECT.o" \
    -DPEGA_CUTE_DIALECT_LIBRARY=
refused "nowhere.a is not there" library "OBJECTS;$work/OBJECT.o" \
    -DPEGA_CUTE_DIALECT_LIBRARY="$work/nowhere.a"
refused "could not be asked for its packages" python "OBJECTS;$work/OBJECT.o" \
    -DPEGA_CUTE_DIALECT_LIBRARY= -DPEGA_CUTE_PYTHON="$work/no-python"
