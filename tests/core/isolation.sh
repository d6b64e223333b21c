#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# isolation.sh CHECK ARGUMENT...: what the library exports, needs and holds, seen from outside.
#   contents LIBRARY               no string and no symbol that has to do with TVM FFI
#   needed LIBRARY [PATTERN]       nothing but libc, libm, the loader, the parsers of packs and PATTERN
#   headers SOURCE BUILD [TARGET]  no object (of TARGET) was compiled with a header of TVM FFI's
#   exports LIBRARY MAP HEADER...  the library, its map and its headers name the same symbols; where
#                                  LIBRARY is "-", the map and the headers alone
#   covered MAP PROGRAM...         the programs' own lists of tested functions hold all of the map
#   size LIBRARY KILOBYTES         how large it is without what only debuggers read
# Exit status: 0 as it should be, 1 not, 77 cannot be seen here.
set -eu
LC_ALL=C
export LC_ALL

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}

# Names that others can bind to. A version map's own names are absolute symbols.
exported() {
    "${NM:-nm}" -D --defined-only "$1" |
        awk '$(NF - 1) == "A" && $NF ~ /^PEGA_/ { next } { sub(/@.*/, "", $NF); print $NF }' | sort
}

declared() { # declared HEADER...: what has PEGA_API before it
    sed 's,^ *#.*,,' "$@" | tr '\n' ' ' | grep -o 'PEGA_API [A-Za-z][^(;]*(' |
        sed 's/ *($//; s/.*[ *]//' | sort
}

mapped() {
    sed -n 's/^ *\([a-z_][a-zA-Z0-9_]*\);.*/\1/p' "$1" | sort
}

same() { # same FILE FILE WHAT WHAT: two sorted lists
    [ -s "$1" ] || fail "$3: the list is empty"
    diff "$1" "$2" >"$work/difference" && return
    sed -n "s/^< /only in $3: /p; s/^> /only in $4: /p" "$work/difference" >&2
    exit 1
}

plain_library() { # plain_library LIBRARY: "-" stands for one that says nothing
    [ "$1" != - ] || skip "this build has no shared library, or one with a sanitizer inside"
}

check_contents() {
    plain_library "$1"
    # Not in machine code, where any three bytes stand side by side sooner or later.
    "${STRIP:-strip}" --strip-debug --remove-section=.text -o "$work/stripped" "$1"
    if grep -aoi '[[:print:]]*tvm[[:print:]]*' "$work/stripped" >&2; then
        fail "$1 holds the text above"
    fi
    if "${READELF:-readelf}" -Wsd "$1" | grep -i tvm >&2; then
        fail "$1 has the symbols above"
    fi
}

check_needed() {
    plain_library "$1"
    "${READELF:-readelf}" -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' >"$work/needed"
    grep -qx 'libc\.so\.6' "$work/needed" || fail "$1 does not even need libc: read wrongly?"
    loader='ld-linux[-a-z0-9_]*\.so\.[0-9]+'
    parsers='libcjson\.so\.1|libelf\.so\.1|libnettle\.so\.[0-9]+'
    if grep -Evx "libc\.so\.6|libm\.so\.6|$loader|$parsers${2:+|$2}" "$work/needed" >&2; then
        fail "$1 needs the libraries above"
    fi
}

check_headers() {
    source=$1 build=$2 target=${3:-}
    if [ -f "$build/build.ninja" ]; then
        "${NINJA:-ninja}" -C "$build" -t deps | grep -v '^ninja: ' >"$work/deps"
        "${NINJA:-ninja}" -C "$build" -t commands >"$work/commands"
    else
        find "$build" -name '*.o.d' -exec cat {} + >"$work/deps"
        find "$build" -name flags.make -exec cat {} + >"$work/commands"
    fi
    if [ -n "$target" ]; then
        awk -v target="CMakeFiles/$target.dir/" '
            /^[^ ]/ { inside = index($1, target) == 1 } inside' "$work/deps" >"$work/part"
        mv "$work/part" "$work/deps"
        grep "CMakeFiles/$target\.dir/.*\.o " "$work/commands" >"$work/part" || true
        mv "$work/part" "$work/commands"
    fi
    grep -q 'pega/pega\.h' "$work/deps" ||
        skip "this generator leaves no list of the headers that were read"
    # Where the project itself lies does not count, nor does what the link line says.
    sed "s,$build/,,g; s,$source/,,g" "$work/deps" | grep -i 'tvm.*\.h' >"$work/found" || true
    sed "s,$build/,,g; s,$source/,,g" "$work/commands" | grep ' -c ' | tr ' ' '\n' |
        grep -E '^-(I|isystem|D|include)|^/' | grep -i tvm >>"$work/found" || true
    [ ! -s "$work/found" ] || fail "compiled with: $(sort -u "$work/found")"
}

check_exports() {
    library=$1 map=$2
    shift 2
    declared "$@" >"$work/declared"
    mapped "$map" >"$work/all"
    grep -v '^__tvm_ffi_' "$work/all" >"$work/mapped"
    same "$work/declared" "$work/mapped" "the headers" "the version map"
    [ "$library" != - ] || return 0
    exported "$library" >"$work/exported"
    same "$work/all" "$work/exported" "the version map" "the library"
    case ${library##*/} in
    *tvm_ffi*) pattern='pega_tvm_ffi_.*|__tvm_ffi_pega_.*' ;;
    libpega_artifact*) pattern='pega_artifact_.*' ;;
    *) pattern='pega_.*|gated_delta_rule_.*' ;;
    esac
    if grep -Evx "$pattern" "$work/exported" >&2; then
        fail "$library exports the names above, expected $pattern"
    fi
    printf '%s symbols\n' "$(wc -l <"$work/exported")"
}

check_covered() {
    mapped "$1" >"$work/mapped"
    shift
    # The programs' tests have tests of their own; here only their lists count.
    for program in "$@"; do
        "$program" list 2>/dev/null | grep -E '^(pega|gated_delta_rule)_[a-z0-9_]*$' || true
    done | sort -u >"$work/covered"
    same "$work/mapped" "$work/covered" "the version map" "the tests of bad input"
}

check_size() {
    plain_library "$1"
    "${STRIP:-strip}" -o "$work/stripped" "$1"
    bytes=$(wc -c <"$work/stripped")
    printf '%s bytes stripped; %s KB are allowed\n' "$bytes" "$2"
    [ "$bytes" -le $(($2 * 1000)) ] || fail "larger than that"
}

check=$1
shift
"check_$check" "$@"
