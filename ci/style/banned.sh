#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Calls that have no place here, each with what to use instead; licence lines; paths of somebody's machine.
. "${srcdir:-.}/ci/style/lib.sh"
cd "$srcdir" || exit 1

# PATTERN (extended, on code without comments) @ FILES THAT MAY (extended, or -) => INSTEAD
# (qb_ipcs demands a job_add from its loop, for closing connections: no latency there, so that one may.)
cat >"$scratch/banned" <<'T'
\bstrcpy *\(|\bstpcpy *\( @ ^tests/ => text_copy of base/text.h, which knows the size of its target
\bstrcat *\(|\bstrncat *\( @ ^tests/ => snprintf at an offset
\bstrncpy *\( @ ^tests/ => text_copy, or memcpy of a checked length
\bv?sprintf *\( @ - => snprintf; in a core text_copy, text_hex
\bgets *\( @ - => fgets, or os_file_read
\bsystem *\( @ ^tests/ => os_spawn: no shell between us and the program
\bpopen *\( @ ^tests/ => os_spawn with a pipe
\b(atoi|atol|atoll|atof) *\( @ ^tests/ => text_u64 of base/text.h, which refuses trailing text
\bstrtok *\( @ ^tests/ => strsep, strcspn
\balloca *\( @ - => a fixed array, or malloc
\brand *\(\) @ - => a seed in the state, getrandom
\btime *\( *(NULL|0|&) @ ^(base/os_wall[.]c|tests/) => loop_now_ns for decisions, os_wall_ns for people
\bgettimeofday *\( @ - => loop_now_ns for decisions, os_wall_ns for people
\bCLOCK_REALTIME\b @ ^(base/os_wall[.]c|tests/) => loop_now_ns for decisions, os_wall_ns for people
\bqb_loop_job_add\b @ ^(ha/ha_ipc[.]c|tests/fake/) => loop_timer_add with 0 ns: a libqb job runs 50 ms late on an idle loop
# *include *<assert\.h> @ - => BUG_ON of base/bug.h, which no build turns off
\bassert *\( @ - => BUG_ON of base/bug.h, which no build turns off
T

# Comments go, lines stay where they are.
tracked '*.c' '*.h' | while read -r file; do
    mkdir -p "$scratch/code/$(dirname "$file")"
    awk '
        function strip(line,   out, i, c, two, quote) {
            out = ""; quote = ""
            for (i = 1; i <= length(line); i++) {
                c = substr(line, i, 1); two = substr(line, i, 2)
                if (inside) { if (two == "*/") { inside = 0; i++ } continue }
                if (quote != "") {
                    if (c == "\\") { i++; continue }
                    if (c == quote) { quote = ""; out = out c }
                    continue
                }
                if (two == "/*") { inside = 1; i++; continue }
                if (two == "//") break
                if (c == "\"" || c == "\x27") quote = c
                out = out c
            }
            return out
        }
        { print strip($0) }' "$file" >"$scratch/code/$file"
done

while read -r rule; do
    instead=${rule##* => }
    rest=${rule% => *}
    may=${rest##* @ }
    pattern=${rest% @ *}
    (cd "$scratch/code" && grep -rnE -- "$pattern" .) | sed 's|^\./||' |
        while IFS=: read -r file line text; do
            if [ "$may" = - ] || ! printf '%s\n' "$file" | grep -Eq -- "$may"; then
                echo "$file:$line: $(printf '%s' "$text" | sed 's/^ *//'): use $instead"
            fi
        done >"$scratch/bad"
    tap_result "banned: $(printf '%s' "$pattern" | sed 's/[\\]b//g; s/[\\]\([(.)]\)/\1/g; s/# *//; s/ \*/ /g')" "$scratch/bad"
done <"$scratch/banned"

# Every source says its licence, in one of its first three lines.
tracked '*.c' '*.h' '*.S' '*.sh' '*.mk' '*.proto' '*.ac' '*.am' | while read -r file; do
    if ! head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0'; then
        echo "$file has no SPDX-License-Identifier: Apache-2.0"
    fi
done >"$scratch/bad"
tap_result "every source names its licence" "$scratch/bad"

# No path of the machine on which it was written.
home='/ho''me/|/ro''ot/|/wo''rk/'
tracked '*' | grep -Ev '\.(bin|img)$' | while read -r file; do
    grep -nIE -- "(^|[^A-Za-z0-9_.}])($home)" "$file" | sed "s|^|$file:|"
done >"$scratch/bad"
tap_result "no path of somebody's machine" "$scratch/bad"
tap_end
