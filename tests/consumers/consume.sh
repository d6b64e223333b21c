#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# consume.sh WHAT ...: makes a project that uses pega in one way, builds it and runs it.
# From the environment: HERE (this folder), SOURCE and BUILD (pega's), WORK (a folder to build in),
# PREFIX (where consumers.install put pega), LIBDIR, VERSION, CMAKE, GENERATOR, CC, CXX, FLAGS (what
# a sanitizer's build needs), BRIDGE_OPTIONS (configure options of the bridge, empty without).
# Exit status: 0 as it should be, 1 not, 77 cannot be tried here.
set -eu
: "${HERE:?}" "${SOURCE:?}" "${BUILD:?}" "${WORK:?}" "${PREFIX:?}" "${LIBDIR:?}" "${VERSION:?}"

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}

rm -rf "$WORK"
mkdir -p "$WORK"

# Runs quietly; what was said is shown when it fails.
quietly() {
    "$@" >"$WORK/log" 2>&1 || {
        cat "$WORK/log" >&2
        fail "failed: $*"
    }
}

configure() { # configure SOURCE BUILD OPTION...
    from=$1 to=$2
    shift 2
    quietly "$CMAKE" -S "$from" -B "$to" -G "$GENERATOR" -DCMAKE_BUILD_TYPE=Debug \
        ${CC:+"-DCMAKE_C_COMPILER=$CC"} ${CXX:+"-DCMAKE_CXX_COMPILER=$CXX"} "$@"
}

package() { # package PREFIX LANGUAGE APP COMPONENTS: an outside project that finds PREFIX
    configure "$HERE/package" "$WORK/app" "-DCMAKE_PREFIX_PATH=$1" "-DAPP_LANGUAGE=$2" \
        "-DAPP=$HERE/$3" "-DAPP_COMPONENTS=$4" "-DAPP_VERSION=${VERSION%.*}" \
        ${FLAGS:+"-DCMAKE_C_FLAGS=$FLAGS"} ${FLAGS:+"-DCMAKE_CXX_FLAGS=$FLAGS"}
    # It is this one that was found, and no other that the machine has.
    grep -q "^pega_DIR:PATH=$1/" "$WORK/app/CMakeCache.txt" ||
        fail "found another pega: $(grep '^pega_DIR' "$WORK/app/CMakeCache.txt")"
    quietly "$CMAKE" --build "$WORK/app"
    "$WORK/app/app"
}

# An outside project that finds what is installed.
what_package() { package "$PREFIX" C app.c ''; }
what_package_artifact() { package "$PREFIX" C app_artifact.c artifact; }
what_package_cublas() { package "$PREFIX" C app_cublas.c cublas; }
what_package_tvm_ffi() { package "$PREFIX" C app_tvm_ffi.c tvm_ffi; }

# Without the bridge, asking for it fails and says why.
what_package_without_tvm_ffi() {
    if "$CMAKE" -S "$HERE/package" -B "$WORK/app" -G "$GENERATOR" "-DCMAKE_PREFIX_PATH=$PREFIX" \
        -DAPP_LANGUAGE=C "-DAPP=$HERE/app_tvm_ffi.c" -DAPP_COMPONENTS=tvm_ffi >"$WORK/log" 2>&1; then
        fail "the component tvm_ffi was found"
    fi
    tr -s '\n ' '  ' <"$WORK/log" >"$WORK/words"
    grep -q 'this pega was built without the TVM FFI bridge: build it with -DPEGA_TVM_FFI=ON' \
        "$WORK/words" || fail "it does not say what to do: $(cat "$WORK/log")"
}

what_package_of_wrong_version() {
    minor=${VERSION#*.}
    minor=${minor%.*}
    for wanted in "${VERSION%%.*}.$((minor + 1))" "${VERSION%%.*}.$((minor - 1))" \
        "$((${VERSION%%.*} + 1)).0" "${VERSION%.*}.$((${VERSION##*.} + 1))"; do
        [ "$wanted" != "${VERSION%%.*}.-1" ] || continue
        rm -rf "$WORK/app"
        if "$CMAKE" -S "$HERE/package" -B "$WORK/app" -G "$GENERATOR" "-DCMAKE_PREFIX_PATH=$PREFIX" \
            -DAPP_LANGUAGE=C "-DAPP=$HERE/app.c" "-DAPP_VERSION=$wanted" >"$WORK/log" 2>&1; then
            fail "version $wanted was found"
        fi
        grep -q "version: $VERSION" "$WORK/log" || fail "it failed otherwise: $(cat "$WORK/log")"
    done
}

# The headers from C++17, by each compiler there is.
what_cxx() {
    tried=
    for CXX in g++ clang++; do
        command -v "$CXX" >/dev/null 2>&1 || continue
        case $FLAGS:$CC in
        *sanitize*:*clang*) [ "$CXX" = clang++ ] || continue ;;
        *sanitize*) [ "$CXX" = g++ ] || continue ;;
        esac
        rm -rf "$WORK/app"
        package "$PREFIX" CXX app.cc "${BRIDGE_OPTIONS:+tvm_ffi}"
        tried=$CXX
    done
    [ -n "$tried" ] || skip "no C++ compiler (g++, clang++) is installed"
}

# Each header by itself, strictly, in C11 and C++17, by each compiler there is.
each_header() { # each_header OPTION...
    count=0
    for header in "$SOURCE"/include/pega/*.h; do
        name=pega/${header##*/}
        for compiler in gcc clang; do
            command -v $compiler >/dev/null 2>&1 || continue
            printf '#include <%s>\n#include <%s>\nint unused;\n' "$name" "$name" |
                quietly $compiler -std=c11 -pedantic-errors -Wall -Wextra -Wconversion -Wshadow -Werror \
                    -fsyntax-only "-I$SOURCE/include" "$@" -x c -
            count=$((count + 1))
        done
        for compiler in g++ clang++; do
            command -v $compiler >/dev/null 2>&1 || continue
            printf '#include <%s>\n#include <%s>\nint unused;\n' "$name" "$name" |
                quietly $compiler -std=c++17 -pedantic-errors -Wall -Wextra -Wshadow -Werror \
                    -fsyntax-only "-I$SOURCE/include" "$@" -x c++ -
            count=$((count + 1))
        done
    done
    [ "$count" -gt 0 ] || skip "no compiler by the name of gcc, clang, g++ or clang++ is installed"
    printf '%s compilations\n' "$count"
}

what_headers() { each_header; }

# Beside a <dlpack/dlpack.h> from before ABI version 1; the library itself builds there too.
what_headers_beside_older_dlpack() {
    each_header -isystem "$HERE/older_dlpack"
    find "$SOURCE/src/core" "$SOURCE/src/ops" "$SOURCE/src/cuda" -name '*.c' >"$WORK/sources"
    while IFS= read -r file; do
        quietly "$CC" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
            "-I$SOURCE/include" "-I$SOURCE/src" -isystem "$HERE/older_dlpack" "$file"
    done <"$WORK/sources"
}

# Beside the real one.
what_headers_beside_dlpack() { each_header -isystem "$DLPACK"; }

pkg_config() {
    PKG_CONFIG_PATH=$where/$LIBDIR/pkgconfig pkg-config "$@"
}

compile() { # compile APP MODULE [--static]: as a Makefile would; `where` holds the prefix
    pkg_config --exists --print-errors "$2" || fail "pkg-config does not know $2"
    [ "$(pkg_config --modversion "$2")" = "$VERSION" ] || fail "pkg-config tells another version"
    flags=$(pkg_config ${3:+"$3"} --cflags --libs "$2")
    # shellcheck disable=SC2086 # FLAGS is a list of words
    eval "quietly \"\$CC\" \$FLAGS -std=c11 -Wall -Wextra -Werror \"\$HERE/$1\" -o \"\$WORK/app\" $flags"
    LD_LIBRARY_PATH=$where/$LIBDIR "$WORK/app"
}

what_pkg_config() {
    command -v pkg-config >/dev/null 2>&1 || skip "pkg-config is not installed"
    where=$PREFIX
    compile app.c pega
    compile app_artifact.c pega_artifact
    [ -z "$BRIDGE_OPTIONS" ] || compile app_tvm_ffi.c pega_tvm_ffi
}

# pega inside another project.
what_subdirectory() {
    configure "$HERE/subdirectory" "$WORK/app" "-DPEGA_SOURCE=$SOURCE" "-DAPP=$HERE/app.c"
    quietly "$CMAKE" --build "$WORK/app"
    "$WORK/app/app"
    [ ! -e "$WORK/app/pega/bin" ] || fail "programs were built: $(ls "$WORK/app/pega/bin")"
    tests=$(cd "$WORK/app" && ctest -N 2>/dev/null | sed -n 's/^Total Tests: //p')
    [ "${tests:-0}" = 0 ] || fail "$tests tests were added"
    # The project installs nothing, so nothing is.
    quietly "$CMAKE" --install "$WORK/app" --prefix "$WORK/prefix"
    [ -z "$(find "$WORK/prefix" -type f 2>/dev/null)" ] || fail "it installs $(find "$WORK/prefix" -type f)"
}

# Built as a static library, installed and found.
what_static() {
    eval "set -- $BRIDGE_OPTIONS"
    configure "$SOURCE" "$WORK/build" -DBUILD_SHARED_LIBS=OFF -DPEGA_BUILD_CLI=OFF -DPEGA_BUILD_TESTS=OFF \
        -DPEGA_BUILD_EXAMPLES=OFF -DPEGA_BUILD_BENCH=OFF -DPEGA_WERROR=ON "$@"
    quietly "$CMAKE" --build "$WORK/build"
    quietly "$CMAKE" --install "$WORK/build" --prefix "$WORK/prefix"
    [ -z "$(find "$WORK/prefix" -path '*/pega/fake_driver' -prune -o -name '*.so*' -print)" ] || fail "shared libraries were installed"
    FLAGS=
    package "$WORK/prefix" C app_artifact.c artifact
    rm -rf "$WORK/app"
    package "$WORK/prefix" C app.c ''
    ! readelf -d "$WORK/app/app" | grep -q 'NEEDED.*libpega' || fail "the program needs a shared libpega"
    if [ $# -gt 0 ]; then
        rm -rf "$WORK/app"
        package "$WORK/prefix" C app_tvm_ffi.c tvm_ffi
    fi
    rm -rf "$WORK/app"
    where=$WORK/prefix
    ! command -v pkg-config >/dev/null 2>&1 || {
        compile app.c pega --static
        compile app_artifact.c pega_artifact --static
    }
}

# Installed into one folder, moved to another; both have blanks in their names.
what_relocated() {
    quietly "$CMAKE" --install "$BUILD" --prefix "$WORK/first place/pega"
    mkdir "$WORK/second place"
    mv "$WORK/first place/pega" "$WORK/second place/it is here"
    where="$WORK/second place/it is here"
    package "$where" C app.c ''
    if [ -n "$BRIDGE_OPTIONS" ]; then
        rm -rf "$WORK/app"
        package "$where" C app_tvm_ffi.c tvm_ffi
    fi
    rm -rf "$WORK/app"
    ! command -v pkg-config >/dev/null 2>&1 || compile app.c pega
}

what_install() {
    rm -rf "$PREFIX"
    quietly "$CMAKE" --install "$BUILD" --prefix "$PREFIX"
    for header in "$SOURCE"/include/pega/*.h; do
        [ -n "$BRIDGE_OPTIONS" ] || [ "${header##*/}" != tvm_ffi.h ] || continue
        cmp "$header" "$PREFIX/include/pega/${header##*/}" || fail "${header##*/} is not installed"
    done
    for document in "$SOURCE"/docs/*.md; do
        cmp "$document" "$PREFIX/share/doc/pega/docs/${document##*/}" || fail "${document##*/} is not installed"
    done
    [ -n "$BRIDGE_OPTIONS" ] || [ -z "$(find "$PREFIX" -name '*tvm*')" ] ||
        fail "without the bridge, $(find "$PREFIX" -name '*tvm*') is installed"
    # Nothing that is installed knows where it was built.
    if grep -rlF -e "$BUILD/" -e "$SOURCE/" "$PREFIX" --include='*.cmake' --include='*.pc' >&2; then
        fail "the files above name the folder that pega was built in"
    fi
    if find "$PREFIX" -name 'lib*.so*' -type f -exec readelf -d {} + |
        grep -E 'R(UN)?PATH' | grep -F "$BUILD" >&2; then
        fail "a library looks for others in the folder it was built in"
    fi
}

what=$1
shift
"what_$what" "$@"
