#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_handwritten.sh [-o FOLDER] [-p PYTHON]: compiles the handwritten CUDA kernels, with no GPU, into
# FOLDER/libpegainfer_kernels_cuda.so and puts its signature file beside it. FOLDER is
# build/artifacts/handwritten if none is named. nvcc is the one that tools/python/kernels.txt pins: the one
# beside PYTHON, build/kernels-python/bin/python3 if none is named ('./dev kernels' makes it).
# NVCC names another. Does nothing where the library is newer than its sources.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
sources=$root/kernels/cuda/handwritten
out=$root/build/artifacts/handwritten
python=$root/build/kernels-python/bin/python3

usage() {
    sed -n '3,7s/^# //p' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
    -o) out=$2 ;;
    -p) python=$2 ;;
    *) usage ;;
    esac
    shift 2
done

fail() {
    echo "build_handwritten.sh: $*" >&2
    exit 1
}

find_nvcc() {
    if [ -n "${NVCC:-}" ]; then
        echo "$NVCC"
        return
    fi
    [ -x "$python" ] || fail "$python is not there: './dev kernels' makes it, or name nvcc in NVCC"
    "$python" - <<'END'
import pathlib
import sysconfig

print(pathlib.Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "nvcc")
END
}

name=libpegainfer_kernels_cuda.so
# nothing newer than what is there: done
if [ -f "$out/$name" ] && [ -f "$out/$name.json" ] &&
    [ -z "$(find "$sources" "$root/kernels/cuda" "$0" -maxdepth 1 -type f -newer "$out/$name")" ]; then
    exit 0
fi

nvcc=$(find_nvcc)
[ -x "$nvcc" ] || fail "$nvcc is not there: './dev kernels' installs it, or name another in NVCC"
home=$(dirname "$(dirname "$nvcc")")
library_folder=$home/lib
[ -f "$library_folder/libcudart_static.a" ] || library_folder=$home/lib64
[ -f "$library_folder/libcudart_static.a" ] || fail "$home has no libcudart_static.a"

mkdir -p "$out"
work=$(mktemp -d "$out/.work-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Each runs on the later minors of its major, and PTX where there is none.
targets="-gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90,code=sm_90"
targets="$targets -gencode arch=compute_100,code=sm_100 -gencode arch=compute_120,code=sm_120"
for source in "$sources"/*.cu; do
    object=$work/$(basename "$source" .cu).o
    # shellcheck disable=SC2086
    "$nvcc" -c -std=c++17 -O3 $targets -ccbin "${CXX:-g++}" -allow-unsupported-compiler \
        -Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-Wall,-ffile-prefix-map="$root"=. \
        -I "$home/include/cccl" -o "$object" "$source" || fail "$source does not compile"
done
# The runtime library is inside, and nothing of it is seen from outside.
"${CXX:-g++}" -shared -o "$work/$name" "$work"/*.o "$library_folder/libcudart_static.a" \
    -Wl,--exclude-libs,ALL -Wl,-Bsymbolic -Wl,--as-needed -Wl,-z,defs -Wl,-soname,$name -Wl,--strip-debug \
    -lpthread -ldl -lrt
cp "$sources/$name.json" "$work/$name.json"
mv "$work/$name.json" "$out/$name.json"
mv "$work/$name" "$out/$name"
