# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# What folders for machines without a network have in common; bench/bundle.sh and tests/gpu/bundle.sh source it.

# gather_libraries HOME: into HOME/lib/system what the programs need beyond the C and C++ libraries; used
# only where the system has none.
gather_libraries() {
    for file in "$1"/bin/* "$1"/lib/*.so.*; do
        LD_LIBRARY_PATH=$1/lib ldd "$file"
    done | sed -n 's/^[[:space:]]*\(lib[^ ]*\) => \(\/[^ ]*\) .*/\1 \2/p' | sort -u |
        while read -r name path; do
            case $name in
            libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libgcc_s.so.* | \
                libstdc++.so.* | libpega*.so.* | libtvm_ffi.so) ;;
            *) cp -L "$path" "$1/lib/system/$name" ;;
            esac
        done
}

# tell_origin PACK...: which commit, compiler and packs a folder is of.
tell_origin() {
    echo "commit: $(git rev-parse HEAD 2>/dev/null || echo unknown)"
    changed=$(git status --porcelain 2>/dev/null | grep -c . || true)
    echo "files changed since: $changed"
    echo "built: $(date -u '+%Y-%m-%d %H:%M UTC') by $(${CC:-cc} --version | head -n 1)"
    for pack; do
        echo "pack: $(basename "$pack") $(sha256sum "$pack" | cut -c1-16)"
    done
}
