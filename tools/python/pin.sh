#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pin.sh: rewrite every pin file beside this script from requirements.in, kernels.in, cute.in,
# flashinfer.in, dsl/*.in and the versions named here. Needs uv (`python3 -m pip install uv`). `./dev`
# installs from the pin files and from nothing else; one pin file fits CPython 3.10 to 3.15 (kernels.txt,
# flashinfer.txt and dsl/: 3.11 to 3.15, as Triton has it) on x86-64 and aarch64.
set -eu
cd "$(dirname "$0")"

# The TVM FFI runtimes that the bridge is tested on: the oldest supported, one between, the newest.
tvm_ffi_versions="0.1.0 0.1.12 0.1.15.post2"
# The same release as Debian 12's, so that both format alike.
clang_format_version=14.0.6
# FLA, whose kernels the GPU tests compare with; it imports einops besides torch and triton.
fla_core_version=0.6.0
oldest_python=3.10

pin() { # pin OUTPUT [OPTION...] < requirements
    out=$1
    shift
    uv pip compile --quiet --universal --python-version "$oldest_python" --no-python-downloads \
        --generate-hashes --only-binary :all: --no-emit-package colorama \
        --custom-compile-command tools/python/pin.sh --output-file "$out" "$@" -
    echo "wrote tools/python/$out"
}

pin requirements.txt --upgrade <requirements.in
pin cute.txt --upgrade <cute.in
echo "clang-format==$clang_format_version" | pin clang-format.txt --no-deps
printf '%s\n' "fla-core==$fla_core_version" einops | pin fla.txt --no-deps
rm -f wheels/apache-tvm-ffi-*.txt
for version in $tvm_ffi_versions; do
    echo "apache-tvm-ffi==$version" | pin "wheels/apache-tvm-ffi-$version.txt" --no-deps
done
oldest_python=3.11
pin kernels.txt --upgrade <kernels.in
pin flashinfer.txt --upgrade --no-deps <flashinfer.in
pin dsl/tvm.txt --upgrade <dsl/tvm.in
pin dsl/cuda.txt --upgrade --no-deps <dsl/cuda.in
# Matplotlib, too, is for CPython 3.11 to 3.15.
pin bench.txt --upgrade <bench.in
