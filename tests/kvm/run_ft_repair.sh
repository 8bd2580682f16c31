# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # read by tests/kvm/run behind run_ft.sh, whose variables and functions these are
# Cases of barriers and repair: the twin's memory is spoilt on purpose. "fails with" says what each was seen to fail with.

pulse_elf=$build/tests/guest/pulse.elf

# twin_flip ADDRESS MASK: one byte of the twin's memory. Nobody logs that; the guest writes to the page itself.
twin_flip() {
    local at value
    at=$(awk '/rw-s.*memfd:gemel-ram/ { sub("-.*", "", $1); print $1; exit }' "/proc/$t_pid/maps")
    at=$((0x$at + $1))
    value=$(dd if="/proc/$t_pid/mem" bs=1 count=1 skip=$at iflag=skip_bytes 2>/dev/null | od -An -tu1)
    # shellcheck disable=SC2059 # made here
    printf "$(printf '\\x%02x' $((value ^ $2)))" | dd of="/proc/$t_pid/mem" bs=1 seek=$at conv=notrunc 2>/dev/null ||
        { fail "the twin's memory cannot be written to"; return 1; }
}
guest_symbol() { echo $((0x$(nm "$pulse_elf" | awk -v name="$1" '$3 == name { print $1 }'))); }

ft_counter() { jq -s --arg c "$1" 'map(select(has("exits") and has($c))) | last | .[$c] // 0' ft.out; }
ft_counts() { [ "$(ft_counter "$1")" -ge "$2" ]; }
ft_all() { jq -sc 'map(select(has("barriers"))) | last | {barriers, repairs, repair_pages, repair_states, repair_outputs, diverged, diverged_output, diverged_data, barrier_us, barrier_max_us}' ft.out; }

# The primary dies; the twin's guest is the primary's, and its disk has all that was said.
repaired_lives() {
    ft_signal KILL "$p_pid"
    until_true 20 ft_over "$ft_pid" || fail "nobody runs alone: $(tail -1 ft.out)"
    jq -e 'select(.end).end == "live"' ft.out >/dev/null 2>&1 || fail "the twin does not run: $(tail -1 ft.out; tail -qn1 t.log)"
    ft_check t
}

case_ft_repair() { # a byte of the twin's memory: only data, an output's bytes, another sector and line, another way; all of it is made good
    # fails with: sums that are always equal, or never; a set without its STATE (sectors, control), without HELD (output); may_write that lets all through (sectors)
    local what address mask class blk
    need_root "another process's memory"
    blk=$(guest_symbol blk)
    for what in data output sectors control silent; do
        case $what in
        data) address=$((0x400000 + 4000)) mask=0x55 class=diverged_data ;;
        output) address=$((blk + 0x20)) mask=0x55 class=diverged_output ;; # blk.boot: in each record
        sectors) address=$((blk + 0x19)) mask=2 class=repairs ;; # blk.acked_seq, 512 more: where the next record goes
        control) address=$(guest_symbol pulse_tick_to_debug) mask=1 class=diverged ;;
        silent) address=$((blk + 0x40)) mask=1 class=diverged ;; # blk.quiet: it makes fewer outputs
        esac
        ft_start "nonet rate=50 dirty=2000:2" || return
        ft_protect --suspect 2000 --diverge-max 100 || return
        ft_more 20 30
        [ "$(ft_counter repairs)" = 0 ] || fail "repaired before anything was spoilt: $(ft_all)"
        twin_flip "$address" $mask || return
        until_true 10 ft_counts $class 1 || fail "not noticed: $(ft_all)"
        until_true 10 ft_counts repairs 1 || fail "not repaired: $(ft_all)"
        ft_more 20 50
        case $what in control | silent)
            grep -q 'twin: diverged: .*last equal exit' t.log || fail "no bundle"
            grep -q 'twin: primary, at the barrier: rax=' t.log || fail "no registers of the primary" ;;
        esac
        echo "# $what: $(ft_all)"
        repaired_lives
        cmp -s <(tail -c +$((500 * 4096 + 1)) a.img) <(tail -c +$((500 * 4096 + 1)) b.img) || fail "the twin's disk has what the primary's has not"
        ft_kill
        [ -z "$failed" ] || { fail "($what)"; return; }
    done
}

case_ft_diverge_max() { # one divergence too many: the session ends with the reason, and the guest goes on without a twin
    need_root "another process's memory"
    ft_start "nonet rate=50" || return
    ft_protect --suspect 2000 --diverge-max 1 || return
    ft_more 20 20
    twin_flip "$(guest_symbol pulse_tick_to_debug)" 1 || return
    until_true 10 ft_counts diverged 1 || fail "not noticed: $(ft_all)"
    ft_more 20 30
    twin_flip "$(guest_symbol pulse_tick_to_debug)" 1 || return
    until_true 20 ft_over "$ft_pid" || fail "it goes on: $(tail -1 ft.out)"
    jq -e 'select(.end).end == "alone"' ft.out >/dev/null || fail "not alone: $(tail -1 ft.out)"
    jq -se 'map(select(.who == "primary" and .state == "alone"))[0].reason == 1' ft.out >/dev/null || fail "no reason that an agent can read: $(grep '"who":"primary"' ft.out | tail -1)"
    jq -se 'map(select(.who == "primary" and .state == "on") | .reason) | all(. == 0)' ft.out >/dev/null || fail "a reason before there is one"
    grep -q 'the twin went another way 2 times in ten minutes (diverge_max is 1)' p.log || fail "it does not say why: $(tail -2 p.log)"
    ft_check p
    ft_kill
}

case_ft_diverged_live() { # the primary dies before it hears that its twin is another: nothing of that has left, and the twin's disk has what the twin wrote
    # fails with: ft_repair_withheld that does nothing
    local what address mask blk counter
    need_root "another process's memory"
    blk=$(guest_symbol blk)
    for what in output sectors control; do
        counter=twin_diverged_output
        case $what in
        output) address=$((blk + 0x20)) mask=0x55 ;;
        sectors) address=$((blk + 0x18)) mask=0x40 ;;
        control) address=$(guest_symbol pulse_tick_to_debug) mask=1 counter=twin_diverged ;;
        esac
        ft_start "nonet rate=50" || return
        ft_protect --suspect 5000 --barrier 100000 || return
        ft_more 20 20
        kill -STOP "$t_pid"
        twin_flip "$address" $mask || return
        sleep 0.5 # what the primary does now, the twin hears later
        ft_signal KILL "$p_pid"
        kill -CONT "$t_pid"
        until_true 20 ft_over "$ft_pid" || fail "nobody runs alone: $(tail -1 ft.out)"
        jq -e 'select(.end).end == "live"' ft.out >/dev/null 2>&1 || fail "the twin does not run: $(tail -1 ft.out; tail -qn1 t.log)"
        [ "$(jq "select(.end).$counter" ft.out)" -ge 1 ] || fail "nothing was another: $(tail -1 ft.out)"
        # A number that was spoilt leaves some out: what it says from then on is on its disk still.
        if [ $what = sectors ]; then ft_more 10 5; else ft_check t; fi
        disk_has_newest
        echo "# $what: $(grep -o '"who":"twin","state":"[a-z-]*"' ft.out | sed 's/.*"state"://' | tr -d '"' | uniq | tr '\n' ' ')"
        ft_kill
        [ -z "$failed" ] || { fail "($what)"; return; }
    done
}
# What the twin said is in the slots of its disk: record s in slot (s - 1) % 1024, its number 8 bytes behind the slot's begin.
disk_has_newest() {
    local s found
    while read -r s; do
        found=$(od -An -tu8 -j $(((s - 1) % 1024 * 4096 + 8)) -N 8 b.img | tr -d ' ')
        [ "$found" = "$s" ] || { fail "record $s was said and is not on the disk: $found"; return; }
    done < <(sed -n 's/^seq=\([0-9]*\) .*/\1/p' t.console | tail -n +2) # the first may have been under way when its number was spoilt
}

case_ft_hashes() { # a HASHES frame that cannot be ends the channel and nothing else; a wrong sum costs a page
    ft_start "nonet rate=50" || return
    ft_protect --suspect 2000 --plain --link "exec python3 $link link.json --hashes page" || return
    until_true 20 ft_over "$ft_pid" || fail "nobody minds: $(ft_all)"
    grep -q 'sums of a barrier that cannot be' p.log || fail "the primary does not say what was wrong: $(tail -2 p.log)"
    case $(jq -r 'select(.end).end' ft.out) in
    alone) ft_check p ;;
    live) ft_check t ;;
    *) fail "nobody runs: $(tail -1 ft.out)" ;;
    esac
    ft_kill
    ft_start "nonet rate=50" || return
    ft_protect --suspect 2000 --plain --link "exec python3 $link link.json --hashes sum" || return
    until_true 10 ft_counts repair_pages 1 || fail "no page for a wrong sum: $(ft_all)"
    ft_more 20 20
    echo "# a wrong sum: $(ft_all)"
    repaired_lives
    ft_kill
}

case_ft_barriers() { # what a barrier costs: pages written to in 200 ms, and how long the guest stands
    local rate
    for rate in 500 5000 50000; do
        ft_start "nonet rate=20 dirty=$rate:44" --memory 64M || return
        ft_protect --suspect 5000 || return
        sleep 5
        echo "# dirty=$rate pages/s: $(jq -sc 'map(select(has("barriers") and .barriers > 0)) | (last | {barriers, pages_each: ((.hashed_pages / .barriers) | floor), repair_pages, diverged, barrier_max_us}) + {barrier_us_median: (map(.barrier_us) | sort | .[length / 2 | floor])}' ft.out)"
        [ "$(ft_counter barriers)" -ge 2 ] || fail "no barriers at $rate pages a second: $(ft_all)"
        ft_kill
        [ -z "$failed" ] || return
    done
}
