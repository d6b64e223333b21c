#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run_flashinfer.sh ROOT: flashinfer_calls.py with the FlashInfer that `./dev artifacts` compiles kernels of.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
kernels=$1/build/artifacts/flashinfer/kernels/gdn_sm90.so
folder=$1/build/dsl/cuda
if [ ! -f "$kernels" ] || [ ! -x "$folder/bin/python3" ]; then
    echo "SKIP: there is no $kernels: run ./dev artifacts flashinfer:gdn"
    [ -z "${PEGA_EXPECT_ARTIFACTS:-}" ] || exit 1
    exit 77
fi
packages=$("$folder/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("platlib"))') || exit 1
export LD_LIBRARY_PATH="$folder/stand-ins:$packages/nvidia/cu13/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export FLASHINFER_WORKSPACE_BASE="$1/build/dsl/flashinfer-work"
exec "$folder/bin/python3" -B -W ignore "$here/flashinfer_calls.py" "$1/bench/peers" "$kernels"
