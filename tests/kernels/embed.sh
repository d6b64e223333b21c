#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# embed.sh: pega_embed_pack() as a project outside uses it, from an installed pega.
# From the environment: HERE (this folder), WORK (a folder to build in), PREFIX (where pega is
# installed), MODULE (cmake/PegaPack.cmake of the source), CMAKE, GENERATOR, CC, FLAGS.
set -eu
: "${HERE:?}" "${WORK:?}" "${PREFIX:?}" "${MODULE:?}" "${CMAKE:?}" "${GENERATOR:?}"

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

quietly() {
    "$@" >"$WORK/log" 2>&1 || {
        cat "$WORK/log" >&2
        fail "failed: $*"
    }
}

rm -rf "$WORK"
mkdir -p "$WORK"
# Not read as a pack here, but for its first bytes. Blanks and quotes are in its name on purpose.
pack="$WORK/a pack's \"own\" name.pegapack"
{
    printf PEGAPACK
    head -c 1001 "$HERE/embed.sh"
} >"$pack"

# The same sources are tried as C and as C++.
sources=$WORK/source
mkdir "$sources"
cp "$HERE/embed/CMakeLists.txt" "$HERE"/embed/*.c "$sources"
for file in "$HERE"/embed/*.c; do
    name=${file##*/}
    cp "$file" "$sources/${name%.c}.cc"
done

configure() { # configure FOLDER OPTION...
    folder=$1
    shift
    quietly "$CMAKE" -S "$sources" -B "$WORK/$folder" -G "$GENERATOR" "-DCMAKE_PREFIX_PATH=$PREFIX" \
        "-DPACK=$pack" -DAPP_LANGUAGE=C -DAPP_EXTENSION=c "$@"
}

try() { # try FOLDER OPTION...: configures, builds, runs; then with another pack
    folder=$1
    configure "$@"
    quietly "$CMAKE" --build "$WORK/$folder"
    "$WORK/$folder/app" "$pack" || fail "$folder: wrong"
    printf 'more' >>"$pack"
    ! "$WORK/$folder/app" "$pack" 2>/dev/null || fail "$folder: the program cannot tell packs apart"
    quietly "$CMAKE" --build "$WORK/$folder"
    "$WORK/$folder/app" "$pack" || fail "$folder: not embedded again when the pack changed"
    ! nm -D "$WORK/$folder/libin_shared.so" | grep kernels || fail "$folder: the symbols are exported"
    echo "ok: $folder"
}

try "${CC##*/}" "-DCMAKE_C_COMPILER=$CC" "-DCMAKE_C_FLAGS=$FLAGS"
grep -q "^pega_DIR:PATH=$PREFIX/" "$WORK/${CC##*/}/CMakeCache.txt" || fail "found another pega"
try strict "-DCMAKE_C_COMPILER=$CC" "-DCMAKE_C_FLAGS=$FLAGS -std=c11 -Wall -Wextra -Wpedantic -Werror"
try lto "-DCMAKE_C_COMPILER=$CC" "-DCMAKE_C_FLAGS=$FLAGS -O2 -flto"
for compiler in gcc clang; do
    command -v $compiler >/dev/null 2>&1 || continue
    try "other $compiler" "-DCMAKE_C_COMPILER=$compiler"
done
for compiler in g++ clang++; do
    command -v $compiler >/dev/null 2>&1 || continue
    try $compiler -DAPP_LANGUAGE=CXX -DAPP_EXTENSION=cc "-DCMAKE_CXX_COMPILER=$compiler"
done
if command -v aarch64-linux-gnu-gcc >/dev/null 2>&1; then
    configure aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DONLY_STATIC=ON \
        -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc "-DPEGA_PACK_MODULE=$MODULE"
    quietly "$CMAKE" --build "$WORK/aarch64"
    readelf -SW "$WORK/aarch64/libin_static.a" 2>/dev/null | grep -q '\.rodata\.static_kernels .* A .* 64$' ||
        fail "aarch64: the section is not read-only data aligned to 64 bytes"
    echo "ok: aarch64"
fi

block() { # block KIND: the block of docs/packs.md of that kind
    awk -v "kind=$1" '$0 == "```" { on = 0 } on { print } $0 == "```" kind { on = 1 }' \
        "$PREFIX/share/doc/pega/docs/packs.md"
}

# The document's own example, as it was installed.
example=$WORK/example
mkdir "$example"
cp "$pack" "$example/engine.pegapack"
block c >"$example/engine.c"
{
    echo 'cmake_minimum_required(VERSION 3.22)'
    echo 'project(example LANGUAGES C)'
    block cmake
} >"$example/CMakeLists.txt"
quietly "$CMAKE" -S "$example" -B "$example/build" -G "$GENERATOR" "-DCMAKE_PREFIX_PATH=$PREFIX" \
    "-DCMAKE_C_COMPILER=$CC" "-DCMAKE_C_FLAGS=$FLAGS -Wall -Wextra -Werror"
quietly "$CMAKE" --build "$example/build"
said=$("$example/build/engine" 2>&1) && fail "the example opened what is no pack"
case $said in *pack*) ;; *) fail "the example does not say why: $said" ;; esac
echo "ok: the example of docs/packs.md"

grep -o '](docs/[a-z]*\.md)' "$PREFIX/share/doc/pega/README.md" | tr -d ']()' >"$WORK/links"
[ -s "$WORK/links" ] || fail "README.md links to no document"
while read -r link; do
    [ -f "$PREFIX/share/doc/pega/$link" ] || fail "README.md links to $link, which is not installed"
done <"$WORK/links"
echo "ok: documents"

refused() { # refused TEXT OPTION...: configuring fails and says TEXT
    text=$1
    shift
    rm -rf "$WORK/refused"
    if "$CMAKE" -S "$sources" -B "$WORK/refused" -G "$GENERATOR" "-DCMAKE_PREFIX_PATH=$PREFIX" \
        -DAPP_LANGUAGE=C -DAPP_EXTENSION=c "-DCMAKE_C_COMPILER=$CC" "$@" >"$WORK/log" 2>&1; then
        fail "taken: $*"
    fi
    tr -s '\n ' '  ' <"$WORK/log" | grep -qF "$text" || fail "it does not say '$text': $(cat "$WORK/log")"
}

refused 'nowhere.pegapack is not there' "-DPACK=$WORK/nowhere.pegapack"
refused 'is a folder' "-DPACK=$WORK"
refused 'it does not begin with PEGAPACK' "-DPACK=$HERE/embed.sh"
refused 'expected pega_embed_pack(<target> PACK <file> SYMBOL <name>)' -DPACK=
echo "ok: what is refused"
