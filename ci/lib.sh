# SPDX-License-Identifier: Apache-2.0
# Shared by ci/demo and ci/test (sourced, bash).
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() {
    printf '[%4ss] %s\n' "$SECONDS" "$*"
}

# build DIR [CONFIGURE-ARGUMENT...]: configures (once) and builds out of tree; the log is shown only on failure
build() {
    local dir=$1
    shift
    mkdir -p "$dir"
    {
        if [ ! -x "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ]; then
            (cd "$top" && autoreconf -fi)
        fi &&
            if [ ! -e "$dir/Makefile" ]; then
                (cd "$dir" && "$top/configure" -q "$@")
            fi &&
            make -s -C "$dir" -j"$(nproc)"
    } >"$dir/build.log" 2>&1 || {
        tail -n 40 "$dir/build.log"
        echo "the build failed; all of it: $dir/build.log"
        return 1
    }
}
