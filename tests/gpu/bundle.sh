#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bundle.sh BUILD HOME PYTHON_FOLDER FLA_FOLDER: gathers what run.sh needs from a build of the preset gpu
# into HOME, a folder that runs wherever it is put: programs, libraries, packs, the TVM FFI wheel, FLA.
set -eu
build=$1 home=$2 wheel=$3 fla=$4
cd "$(dirname "$0")/../.."
# shellcheck source=tools/bundling.sh
. tools/bundling.sh

rm -rf "$home"
mkdir -p "$home/bin" "$home/lib" "$home/lib/system" "$home/kernels" "$home/python"
cp "$build"/bin/test_gpu_* "$build"/bin/cold_start_* "$build"/bin/pega "$home/bin/"
for library in "$build"/lib/libpega.so.[0-9] "$build"/lib/libpega_artifact.so.[0-9] \
    "$build"/lib/libpega_cublas.so.[0-9] "$build"/lib/libpega_tvm_ffi.so.[0-9]; do
    cp -L "$library" "$home/lib/"
done
# TVM FFI loads modules by the ending of their name.
cp -L "$build/lib/libpega_tvm_ffi.so" "$home/lib/"
cp build/kernels/*.pegapack "$home/kernels/"
cp -R "$wheel" "$home/python/"
mkdir "$home/python/fla"
cp -R "$fla/fla" "$fla/einops" "$home/python/fla/"
# What other compilers made (./dev artifacts) but for Apache TVM, whose module runs on the CPU, and the older TVM
# FFI whose Python part calls TileLang's.
for file in build/artifacts/*/*.so build/artifacts/*/*.so.json build/artifacts/*/runtime/*; do
    case $file in build/artifacts/tvm/*) continue ;; esac
    [ -f "$file" ] || continue
    mkdir -p "$home/$(dirname "${file#build/}")"
    cp -L "$file" "$home/${file#build/}"
done
[ ! -d "$wheel-0.1.12" ] || cp -R "$wheel-0.1.12" "$home/python/tvm-ffi-0.1.12"
# Sources that TVM FFI's wheel brings are not used there.
rm -rf "$home"/python/*/tvm_ffi/3rdparty
for pack in qwen35 abi; do
    mkdir -p "$home/artifacts/export"
    "$build/bin/pega" export "build/kernels/$pack.pegapack" -o "$home/artifacts/export/$pack.so"
done

gather_libraries "$home"

{
    tell_origin build/kernels/*.pegapack
    echo "wheel: $(basename "$wheel")"
    for package in "$fla"/*.dist-info; do
        echo "package: $(basename "$package" .dist-info)"
    done
} >"$home/INFO"
du -sk "$home" | while read -r size path; do echo "$path: $size KiB"; done
