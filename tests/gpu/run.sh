#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh HOME REPORT: runs everything that needs a GPU from a folder that bundle.sh made, builds and
# installs nothing. Each part's output goes to REPORT/PART.log and all of it to REPORT/gpu-test.txt.
# Ends with 0 if all that ran passed, 1 if a part failed, 77 if nothing could run.
#
# Environment: PEGA_TORCH_PYTHON, a Python that has torch (else python3).
set -u
tests=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
home=$(CDPATH='' cd -- "$1" && pwd) || exit 1
mkdir -p "$2"
report=$(CDPATH='' cd -- "$2" && pwd) || exit 1
rm -rf "${report:?}"/*
text=$report/gpu-test.txt
started=$(date +%s)
budget=560 # seconds for everything
passed=0 failed=0 skipped=0
results='' reasons='' failures=''

emit() { printf '%s\n' "$*" | tee -a "$text"; }
indented() { sed 's/^/    /' "$1" | tee -a "$text"; }

# --- What the programs find ---

python=${PEGA_TORCH_PYTHON:-python3}
abi=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])' 2>/dev/null) || abi=none
wheel=$home/python/$abi
if [ -d "$wheel" ]; then
    export PYTHONPATH="$wheel${PYTHONPATH:+:$PYTHONPATH}"
else # its library serves all the same
    for wheel in "$home"/python/cp*; do :; done
fi

# Libraries that the system has are the system's.
known=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null) || known=
mkdir -p "$report/lib"
for library in "$home"/lib/system/*; do
    case $known in
    *"${library##*/} "*) ;;
    *) ln -sf "$library" "$report/lib/" ;;
    esac
done
LD_LIBRARY_PATH=$home/lib:$wheel/tvm_ffi/lib:$report/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
export PEGA_PACK_PATH="$home/kernels/qwen35.pegapack" PEGA_TEST_KERNELS="$home/kernels"
export PEGA_TVM_FFI_LIBRARY="$wheel/tvm_ffi/lib/libtvm_ffi.so"
export PEGA_TEST_BRIDGE="$home/lib/libpega_tvm_ffi.so" PEGA_TEST_FLA="$home/python/fla"
export PEGA_TEST_CUTE="$home/artifacts/cute" PEGA_TEST_EXPORTED="$home/artifacts/export"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

sanitizer=
for candidate in compute-sanitizer /usr/local/cuda/bin/compute-sanitizer \
    /usr/local/cuda/compute-sanitizer/compute-sanitizer; do
    [ -n "$sanitizer" ] || sanitizer=$(command -v "$candidate") || sanitizer=
done

# --- Parts ---

verdict() { # verdict NAME SECONDS STATUS: after NAME.log was written; 77 is a skip
    log=$report/$1.log
    parts=$(sed -n 's/^SKIP: */; /p' "$log" | tr -d '\n')
    parts=${parts#; }
    case $3 in
    0)
        outcome=passed passed=$((passed + 1))
        [ -z "$parts" ] || reasons="$reasons
  part of $1: $parts"
        ;;
    77)
        outcome=skipped skipped=$((skipped + 1)) reasons="$reasons
  $1: ${parts:-no reason given}"
        ;;
    *)
        outcome=FAILED failed=$((failed + 1)) why="exit status $3"
        [ "$3" -ne 124 ] || why="ran past its limit"
        failures="$failures
  $1: $why"
        ;;
    esac
    line=$(printf '%-8s %4d s  %s' "$outcome" "$2" "$1")
    results="$results
  $line"
    emit ""
    emit "######## $line"
    indented "$log"
}

# Sets begun, and limit to what of LIMIT is left; where too little is, skips the part and fails.
begin() { # begin NAME LIMIT
    begun=$(date +%s)
    left=$((started + budget - begun))
    limit=$2
    [ "$limit" -le "$left" ] || limit=$left
    [ "$limit" -lt 10 ] || return 0
    echo "SKIP: out of time: the parts before took $((begun - started)) s" >"$report/$1.log"
    verdict "$1" 0 77
    return 1
}

part() { # part NAME LIMIT COMMAND...
    name=$1
    begin "$name" "$2" || return
    shift 2
    timeout -k 5 "$limit" "$@" >"$report/$name.log" 2>&1 </dev/null
    verdict "$name" $(($(date +%s) - begun)) $?
}

sanitized() { # sanitized NAME EXPECTED LIMIT TOOL OPTION... COMMAND...
    name=$1 expected=$2
    begin "$name" "$3" || return
    shift 3
    if [ -z "$sanitizer" ]; then
        echo "SKIP: no compute-sanitizer on PATH or in /usr/local/cuda" >"$report/$name.log"
        status=77
    else
        timeout -k 5 "$limit" "$sanitizer" --error-exitcode 99 --tool "$@" >"$report/$name.log" 2>&1 </dev/null
        status=$?
        if [ "$status" -eq 77 ]; then
            :
        elif grep -q 'Device not supported' "$report/$name.log"; then
            echo "SKIP: compute-sanitizer does not support this device or its driver" >>"$report/$name.log"
            status=77
        elif [ "$status" -eq "$expected" ]; then
            status=0
        elif [ "$status" -eq 0 ]; then
            echo "expected the tool to report errors, and it did not" >>"$report/$name.log"
            status=1
        fi
    fi
    verdict "$name" $(($(date +%s) - begun)) "$status"
}

# --- The report ---

emit "pega GPU test"
[ -z "${PEGA_TEST_REHEARSAL:-}" ] || emit "REHEARSAL on the fake driver: no kernel runs, and nothing below counts for a GPU"
emit "date: $(date -u '+%Y-%m-%d %H:%M UTC')"
while read -r line; do emit "$line"; done <"$home/INFO"
emit "device: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)"
emit "processor: $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
emit "system: $(uname -sm), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)"
emit "compute-sanitizer: $("${sanitizer:-false}" --version 2>/dev/null | sed -n 's/.*[Vv]ersion \([0-9.]*\).*/\1/p' | head -n 1)"
emit "python: $("$python" --version 2>&1)"
emit "pega: $("$home/bin/pega" --version 2>&1 | head -n 1)"

part launch 60 "$home/bin/test_gpu_launch"
part solve 90 "$home/bin/test_gpu_solve"
part gdr-stages 90 "$home/bin/test_gpu_gdr_stages"
part gdr-prefill 120 "$home/bin/test_gpu_gdr_prefill"
part gdr-decode 60 "$home/bin/test_gpu_gdr_decode"
flashinfer=$home/artifacts/flashinfer/flashinfer_gdn_sm90.so
part gdr-flashinfer 90 env PEGA_TEST_FLASHINFER="$flashinfer" "$home/bin/test_gpu_gdr_flashinfer"
part gdr-flashinfer-time 40 env PEGA_TEST_FLASHINFER="$flashinfer" "$home/bin/test_gpu_gdr_flashinfer" time
part cublas 60 "$home/bin/test_gpu_cublas"
export PEGA_TEST_HANDWRITTEN="$home/artifacts/handwritten/libpegainfer_kernels_cuda.so"
part handwritten 60 "$home/bin/test_gpu_handwritten"
part handwritten-python 60 "$python" "$tests/handwritten.py" "$PEGA_TEST_HANDWRITTEN"
part abi 60 "$home/bin/test_gpu_abi"
part fault 60 "$home/bin/test_gpu_fault"
part python 120 "$python" "$tests/client.py"
part export-python 60 "$python" "$tests/client_export.py"
part cublas-python 60 env "PEGA_TEST_CUBLAS=$home/lib/libpega_cublas.so.0" "$python" "$tests/client_cublas.py"
part gdr-python 150 "$python" "$tests/client_gdr.py"
part cute-python 90 "$python" "$tests/client_cute.py"
mkdir -p "$home/artifacts"
part artifacts 150 env PEGA_TEST_OLD_TVM_FFI="$home/python/tvm-ffi-0.1.12" \
    PEGA_TEST_COMMIT="$(sed -n 's/^commit: //p' "$home/INFO")" \
    LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$home/artifacts/flashinfer/runtime" \
    "$python" "$tests/artifacts.py" "$home/bin/test_gpu_artifacts" "$home/artifacts" -o "$report/artifacts.json" \
    --log "$report/cublas.log" --log "$report/cublas-python.log" --log "$report/gdr-flashinfer.log"
# The library alone: ./dev bench has its peers beside it.
part bench 120 "$home/bin/pega" bench launch cold solve stages prefill decode --peers none --json "$report/bench.json"
export PEGA_TEST_BRIEF=1
sanitized sanitizer-control 99 60 memcheck --print-limit 2 "$home/bin/test_gpu_fault" bad-launch
for program in solve gdr_stages gdr_prefill gdr_decode; do
    sanitized "memcheck-$program" 0 90 memcheck --report-api-errors no "$home/bin/test_gpu_$program"
    for tool in racecheck synccheck initcheck; do
        sanitized "$tool-$program" 0 90 "$tool" "$home/bin/test_gpu_$program"
    done
done
sanitized memcheck-handwritten 0 60 memcheck --report-api-errors no "$home/bin/test_gpu_handwritten"

emit ""
emit "######## what was run"
emit "${results#?}"
[ -z "$reasons" ] || emit "skipped:$reasons"
[ -z "$failures" ] || emit "FAILED:$failures"
emit "$passed passed, $failed failed, $skipped skipped"
status=0
[ "$passed" -gt 0 ] || status=77
[ "$failed" -eq 0 ] || status=1
emit "exit status: $status"
exit "$status"
