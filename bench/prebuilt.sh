#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prebuilt.sh HOME ARGUMENT...: `pega bench ARGUMENT...` from a folder that bundle.sh made, builds and
# installs nothing. HOME's FlashInfer prefill is provided to pega unless --artifact is among the
# arguments. `prebuilt.sh HOME --try PEER ARGUMENT...` speaks with one peer alone; `prebuilt.sh HOME --warm
# [SECONDS]` lets FLA compile ahead what it tunes over, all at once; `prebuilt.sh HOME --tune ARGUMENT...` is
# `pega tune ARGUMENT...`, FlashInfer's prefill provided, too; `prebuilt.sh HOME --counters FOLDER` has Nsight
# Compute look at the library's kernels, for tools/bench/counters.py --folder FOLDER.
#
# Environment: PEGA_TORCH_PYTHON, a Python that has torch (else python3); PEGA_BENCH_PEER_SECONDS, how
# long a peer may prepare a case (else 300: FLA tunes for a minute or more).
set -eu
given=${1%/} # as results name it
home=$(CDPATH='' cd -- "$1" && pwd)
shift
python=${PEGA_TORCH_PYTHON:-python3}
abi=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])' 2>/dev/null) || abi=none
wheel=$home/python/$abi
if [ -d "$wheel" ]; then
    export PYTHONPATH="$wheel${PYTHONPATH:+:$PYTHONPATH}"
else # its library serves all the same
    echo "prebuilt.sh: no TVM FFI for $python ($abi): peers that need it are left out" >&2
    for wheel in "$home"/python/cp*; do :; done
fi

# Libraries that the system has are the system's.
known=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null) || known=
missing=$(mktemp -d)
trap 'rm -rf "$missing"' EXIT
for library in "$home"/lib/system/*; do
    case $known in
    *"${library##*/} "*) ;;
    *) ln -sf "$library" "$missing/" ;;
    esac
done
export LD_LIBRARY_PATH="$home/lib:$wheel/tvm_ffi/lib:$missing${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PEGA_TVM_FFI_LIBRARY="$wheel/tvm_ffi/lib/libtvm_ffi.so"
export PEGA_PACK_PATH="$home/kernels/qwen35.pegapack"
export PEGA_FLA="$home/python/fla" PEGA_FLASHINFER="$home/python/flashinfer"
export PEGA_FLASHINFER_KERNELS="$home/artifacts/gdn_sm90.so"
export PEGA_BENCH_PEER_SECONDS="${PEGA_BENCH_PEER_SECONDS:-300}"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

if [ "${1:-}" = --try ]; then
    shift
    "$python" "$home/share/pega/bench/peers/_try.py" "$@"
    exit
fi
if [ "${1:-}" = --counters ]; then
    if [ -z "${2:-}" ]; then
        echo "prebuilt.sh: --counters needs a FOLDER, for what Nsight Compute prints" >&2
        exit 2
    fi
    export PEGA_BENCH_BRIDGE="$home/lib/libpega_tvm_ffi.so"
    "$python" "$home/share/pega/bench/profile.py" "$2" "$(cat "$home/share/pega/bench/counters")"
    exit
fi
if [ "${1:-}" = --warm ]; then
    shift
    "$python" "$home/share/pega/bench/peers/_warm.py" "$@"
    exit
fi
command=bench
if [ "${1:-}" = --tune ]; then
    shift
    command=tune
fi
case " $* " in
*" --artifact"*) ;;
*)
    artifact=$given/artifacts/flashinfer_gdn_sm90.so
    if [ -f "$artifact" ] && "$home/bin/pega" "$command" --help | grep -q -- --artifact; then
        set -- "$@" --artifact "$artifact"
    fi
    ;;
esac
"$home/bin/pega" "$command" "$@"
