#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bundle.sh BUILD HOME WHEEL FLA PACKAGES LACKING: gathers what `pega bench` and its peers need from a build
# into HOME, a folder that runs wherever it is put, on a machine with a GPU, torch and Triton and without a
# network: bench/prebuilt.sh HOME. WHEEL is TVM FFI's for that machine's Python, PACKAGES has FlashInfer,
# LACKING what its Python imports besides (tools/python/flashinfer.txt).
set -eu
build=$1 home=$2 wheel=$3 fla=$4 packages=$5 lacking=$6
cd "$(dirname "$0")/.."
# shellcheck source=tools/bundling.sh
. tools/bundling.sh

rm -rf "$home"
mkdir -p "$home/bin" "$home/lib/system" "$home/share/pega/bench" "$home/kernels" "$home/python" "$home/artifacts"
cp "$build/bin/pega" "$home/bin/"
for program in "$build"/bin/cold_start_*; do
    [ ! -f "$program" ] || cp "$program" "$home/bin/"
done
for library in "$build"/lib/libpega.so.[0-9] "$build"/lib/libpega_artifact.so.[0-9] \
    "$build"/lib/libpega_cublas.so.[0-9] "$build"/lib/libpega_tvm_ffi.so.[0-9]; do
    [ ! -f "$library" ] || cp -L "$library" "$home/lib/"
done
ln -s libpega_tvm_ffi.so.0 "$home/lib/libpega_tvm_ffi.so" # a TVM FFI module has a name like this
cp -R "$build/share/pega/bench/peers" "$home/share/pega/bench/"
cp bench/profile.py "$home/share/pega/bench/"
python3 tools/bench/counters.py --options >"$home/share/pega/bench/counters"
[ ! -f "$build/bin/libbench_cubin_launcher.so" ] ||
    cp "$build/bin/libbench_cubin_launcher.so" "$home/share/pega/bench/"
cp build/kernels/qwen35.pegapack "$home/kernels/"
cp -R "$wheel" "$home/python/"
rm -rf "$home"/python/*/tvm_ffi/3rdparty
mkdir "$home/python/fla"
cp -R "$fla/fla" "$fla/einops" "$home/python/fla/"

# FlashInfer: the Python of its gated delta rule, and the kernels, compiled ahead. What it imports besides
# is only for a machine that has it not.
flashinfer=build/artifacts/flashinfer
for file in "$flashinfer/flashinfer_gdn_sm90.so" "$flashinfer/kernels/gdn_sm90.so" \
    "$flashinfer/kernels/gdn_sm90.json"; do
    [ ! -f "$file" ] || cp "$file" "$home/artifacts/"
done
if [ -d "$packages/flashinfer" ]; then
    mkdir -p "$home/python/flashinfer/lacking"
    (
        cd "$packages"
        {
            printf '%s\n' flashinfer/*.py flashinfer/cute_dsl/availability.py flashinfer/cute_dsl/utils.py
            find flashinfer/gdn_kernels flashinfer/jit flashinfer/trace -name '*.py' -o -name '*.json'
        } | tar -cf - -T -
    ) | tar -xf - -C "$home/python/flashinfer"
    for file in gdn_prefill gdn_decode cute_dsl/utils jit/core trace/template gdn_kernels/qk_l2norm; do
        [ -f "$home/python/flashinfer/flashinfer/$file.py" ] || {
            echo "bundle.sh: FlashInfer's $file.py is not in $packages" >&2
            exit 1
        }
    done
    cp -R "$lacking"/. "$home/python/flashinfer/lacking/"
    # Of CUDA's bindings the driver's.
    (
        cd "$home/python/flashinfer/lacking"
        rm -rf bin example.py ./*.dist-info .stamp
        find cuda/bindings -type f ! -name '*.py' ! -name 'driver.*.so' ! -name 'cydriver.*.so' \
            ! -path '*/_internal/utils.*.so' -delete
        rm -rf cuda/bindings/_v2
    )
fi
find "$home" -name __pycache__ -prune -exec rm -rf {} +

gather_libraries "$home"

tell_origin build/kernels/qwen35.pegapack >"$home/INFO"
du -sk "$home" | while read -r size path; do echo "$path: $size KiB"; done
