#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_exports.sh FOLDER...: checks what each libpega*.so under the FOLDERs exports and needs.
# libpega.so exports pega_* and the kernels' C symbols, and needs libc, libm, libcjson, libelf and
# libnettle alone; libpega_artifact.so exports pega_artifact_*, and needs libc, libgcc_s, libpega,
# libcjson and libelf; libpega_cublas.so exports pega_cublas_* and needs libc and libpega;
# libpega_tvm_ffi.so exports pega_tvm_ffi_* and __tvm_ffi_*, and needs libc, libgcc_s, libpega,
# libpega_artifact and libelf.
set -eu

[ $# -gt 0 ] || {
    sed -n '3,9s/^# //p' "$0" >&2
    exit 2
}

failed=0
checked=0

fail() {
    printf '%s: %s\n' "$1" "$2" >&2
    failed=1
}

check_library() { # check_library FILE SYMBOL_PATTERN NEEDED_PATTERN
    symbols=$(nm -D --defined-only "$1" | awk '
        # The version map defines its node names as absolute symbols.
        $(NF - 1) == "A" && $NF ~ /^PEGA_/ { next }
        { sub(/@.*/, "", $NF); print $NF }')
    [ -n "$symbols" ] || fail "$1" "exports nothing"
    for symbol in $symbols; do
        printf '%s\n' "$symbol" | grep -Eqx "$2" || fail "$1" "exports '$symbol', expected $2"
    done
    for library in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'); do
        printf '%s\n' "$library" | grep -Eqx "$3" || fail "$1" "needs '$library', expected $3"
    done
    checked=$((checked + 1))
}

parsers='libcjson\.so\.1|libelf\.so\.1|libnettle\.so\.[0-9]+'
unwinder='libgcc_s\.so\.1'
libc='libc\.so\.6|libm\.so\.6|ld-linux-[a-z0-9-]+\.so\.[0-9]+'
for folder in "$@"; do
    before=$checked
    for file in $(find "$folder/lib" -type f -name 'libpega*.so*' | sort); do
        case ${file##*/} in
        libpega_tvm_ffi.so*)
            check_library "$file" '(pega_tvm_ffi|__tvm_ffi)_.*' \
                "libpega(_artifact)?\.so\.[0-9]+|libelf\.so\.1|$unwinder|$libc"
            ;;
        libpega_artifact.so*)
            check_library "$file" 'pega_artifact_.*' \
                "libpega\.so\.[0-9]+|libcjson\.so\.1|libelf\.so\.1|$unwinder|$libc"
            ;;
        libpega_cublas.so*) check_library "$file" 'pega_cublas_.*' "libpega\.so\.[0-9]+|$libc" ;;
        libpega.so*) check_library "$file" 'pega_.*|gated_delta_rule_.*' "$parsers|$libc" ;;
        esac
    done
    [ "$checked" -gt "$before" ] || fail "$folder" "holds no libpega.so: build it first, shared"
done
[ "$failed" -eq 0 ] || exit 1
echo "exported symbols: ok ($checked libraries)"
