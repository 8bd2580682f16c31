#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clang-format decides. To repair: clang-format -i FILE.
. "${srcdir:-.}/ci/style/lib.sh"
cd "$srcdir" || exit 1
command -v clang-format >/dev/null || tap_skip_all "clang-format is not installed (ci/deps installs it)"

tracked '*.c' '*.h' | sed 's|/[^/]*$||' | sort -u >"$scratch/dirs"
while read -r dir; do
    tracked "$dir/*.c" "$dir/*.h" | grep "^$dir/[^/]*\$" |
        xargs -r clang-format --dry-run --Werror 2>&1 |
        sed -n 's|^\([^ :]*\):\([0-9]*\):.*error:.*|\1:\2 is not formatted: clang-format -i \1|p' |
        sort -u -t: -k1,1 >"$scratch/bad"
    tap_result "format of $dir/" "$scratch/bad"
done <"$scratch/dirs"
tap_end
