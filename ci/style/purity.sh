#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Cores are pure: lib<f>_core.a may refer to itself, to lower cores, to mem* and str* that neither allocate nor keep state,
# to the compiler's and sanitizers' runtime, and to base_panic. And it has no variable that can change.
. "${srcdir:-.}/ci/style/lib.sh"
cd "$srcdir" || exit 1

cat >"$scratch/allowed" <<'T'
mem(cpy|move|set|cmp|chr|rchr|mem|pcpy)
__mem(cpy|move|set|pcpy)_chk
str(len|nlen|cmp|ncmp|casecmp|ncasecmp|chr|chrnul|rchr|str|spn|cspn|pbrk)
base_panic
__stack_chk_fail
_GLOBAL_OFFSET_TABLE_
__[a-z]*[sdt]i[0-9]
__cpu_model
__(popcount|clz|ctz|parity)[sdt]i2
_?__?(asan|ubsan|tsan|lsan|msan|sancov|sanitizer|gcov|llvm|sanitizer_cov)_.*
__start___sancov.*|__stop___sancov.*
T
allowed="^($(paste -sd '|' "$scratch/allowed"))\$"

archive_of() {
    echo "$builddir/.libs/lib$(echo "$1" | tr - _)_core.a"
}

# The names an archive defines, or (-u) still needs
defined() {
    nm --defined-only --extern-only --format=posix "$1" 2>/dev/null | awk 'NF > 1 { print $1 }' | sort -u
}
needed() {
    nm --undefined-only --format=posix "$1" 2>/dev/null | awk 'NF > 1 { print $1 }' | sort -u
}

# Variables in writable sections; .data.rel.ro is constant after relocation, and sanitizers have their own.
writable() {
    nm --format=sysv --defined-only "$1" 2>/dev/null | awk -F'|' '
        { gsub(/ /, "", $1); gsub(/[ \t]/, "", $7) }
        $7 ~ /^(\.data|\.bss|\.tdata|\.tbss|COMMON|\*COM\*)/ && $7 !~ /^\.data\.rel\.ro/ &&
        $1 !~ /^(__asan|__ubsan|__tsan|__sanc|_?__gcov|__llvm|\.L|__start_|__stop_|___asan|__odr_asan|_sub_)/ { print $1, $7 }'
}

for folder in $folders; do
    lib=lib$(echo "$folder" | tr - _)_core.la
    grep -q "$lib" "$folder/folder.mk" 2>/dev/null || continue
    archive=$(archive_of "$folder")
    : >"$scratch/bad"
    if [ ! -f "$archive" ]; then
        echo "$archive is not built: make $lib" >"$scratch/bad"
        tap_result "$lib is pure" "$scratch/bad"
        continue
    fi
    for lower in $(folder_may_use "$folder"); do
        if [ -f "$(archive_of "$lower")" ]; then
            defined "$(archive_of "$lower")"
        fi
    done | sort -u >"$scratch/defined"
    needed "$archive" | comm -23 - "$scratch/defined" | grep -Ev "$allowed" |
        sed "s|.*|$lib needs &: a core makes no system call, allocates nothing and does not log; move it to the io library|" \
            >>"$scratch/bad"
    writable "$archive" | sed "s|.*|$lib has the variable &: state belongs to the caller|" >>"$scratch/bad"
    tap_result "$lib is pure" "$scratch/bad"
done
tap_end
