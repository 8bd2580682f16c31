# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the style tests share. Each is run by `make check` with srcdir (top of the source tree) and builddir in the
# environment, speaks TAP, and can be run by hand from the top of the tree.
# shellcheck disable=SC2034 # used by the scripts that read this file

set -u
LC_ALL=C
export LC_ALL
srcdir=${srcdir:-.}
builddir=${builddir:-.}
# The scripts change into the source tree, so neither may be relative.
srcdir=$(cd "$srcdir" && pwd) || exit 1
builddir=$(cd "$builddir" && pwd) || exit 1
tap_count=0
tap_failed=0

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# Which folders a folder may include (design, section 3); every folder may include itself.
layers='
base
vmm: base
cluster-conf: base
migrate: vmm base
fencing: cluster-conf base
storage: base
ft: migrate vmm base
ha: fencing cluster-conf base
lab: cluster-conf base tests/guest
programs: base vmm cluster-conf migrate fencing ft ha lab
'
folders=$(printf '%s\n' "$layers" | sed -n 's/^\([a-z-]*\).*/\1/p')

# folder_may_use FOLDER: itself and what stands in the table
folder_may_use() {
    echo "$1"
    printf '%s\n' "$layers" | sed -n "s/^$1: //p" | tr ' ' '\n'
}

# tracked PATTERN...: our files, relative to the top; without git (a release) all that are there
tracked() {
    if [ -n "$(git -C "$srcdir" ls-files configure.ac 2>/dev/null)" ]; then
        (cd "$srcdir" && git ls-files -- "$@" | while read -r f; do
            if [ -f "$f" ]; then
                printf '%s\n' "$f"
            fi
        done)
    else
        for p in "$@"; do
            (cd "$srcdir" && find . -path './build*' -prune -o -type f -path "./$p" -print)
        done | sed 's|^\./||' | sort -u
    fi
}

# tap_result NAME FILE_OF_COMPLAINTS: passes when the file is empty
tap_result() {
    tap_count=$((tap_count + 1))
    if [ -s "$2" ]; then
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_count - $1"
        sed 's/^/# /' "$2"
    else
        echo "ok $tap_count - $1"
    fi
}

tap_skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}

tap_end() {
    # A checker that looked at nothing proves nothing.
    if [ "$tap_count" -eq 0 ]; then
        echo "Bail out! nothing was checked"
        exit 1
    fi
    echo "1..$tap_count"
    [ "$tap_failed" -eq 0 ]
    exit $?
}
