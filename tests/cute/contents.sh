#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# contents.sh FOLDER: what the modules in FOLDER show, need and import. 77 where they were not built.
set -eu
LC_ALL=C
export LC_ALL
folder=$1
failed=0

same() { # same WHAT GOT EXPECTED
    [ "$2" = "$3" ] && return
    printf '%s: got\n%s\nexpected\n%s\n' "$1" "$2" "$3" >&2
    failed=1
}

check() { # check MODULE EXPORTS IMPORTS
    file=$folder/$1
    [ -f "$file" ] || {
        echo "SKIP: $file was not built: tools/dsl/cute.sh builds it"
        exit 77
    }
    same "exports of $1" "$(nm -D --defined-only "$file" | awk '{ print $NF }' | sort)" "$2"
    # Weak symbols are those that every library of gcc's has.
    same "imports of $1 that are not libc's" \
        "$(nm -D --undefined-only "$file" | awk '$1 == "U" && $2 !~ /@GLIBC_/ { print $2 }' | sort)" "$3"
    needs=$(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' |
        grep -Evx 'libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux-[a-z0-9-]+\.so\.[0-9]+' || true)
    same "what $1 needs beyond libc" "$needs" ""
    size=$(wc -c <"$file")
    [ "$size" -lt 2000000 ] || {
        echo "$1 has $size bytes, expected less than 2,000,000" >&2
        failed=1
    }
    # It is to be the same wherever it was built: no folder of the builder's in it.
    if grep -aq -e "$folder" "$file"; then
        echo "$1 holds the name of the folder it was built in" >&2
        failed=1
    fi
    echo "$1: $size bytes; needs libc${3:+ and TVM FFI}"
}

check indexer_c.so 'deepseek_cutedsl_indexer_dots_bf16_cuda
deepseek_cutedsl_indexer_scores_bf16_cuda' ''
check indexer_tvm_ffi.so '__tvm_ffi_indexer_dots
__tvm_ffi_indexer_scores' 'TVMFFIEnvGetStream
TVMFFIErrorSetRaisedFromCStr
TVMFFIErrorSetRaisedFromCStrParts'
exit $failed
