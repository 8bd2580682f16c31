# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034 # read by tests/kvm/run behind run_ft.sh, whose variables and functions these are
# Cases of a protected VM whose disk both sides share: a.img. What the primary writes is an output; the twin gets the disk with its claim.

case_ft_shared() { # one disk for both: every commit rule, checkpoints; the primary dies, its twin dies, a switchover
    local o
    ft_twin_image=a.img
    for o in "--commit verified" "--commit received" "--checkpoint" "--switchover" "--checkpoint --switchover"; do
        ft_start "nonet rate=100" || return
        # shellcheck disable=SC2086
        ft_protect $o || return
        shared_untouched
        case $o in
        *switchover) ;;
        *) ft_more 10 50; shared_untouched; ft_signal KILL "$p_pid" ;;
        esac
        ft_end live
        ft_check t
        echo "# $o: $ft_last records, $(jq -c 'select(.end)' ft.out)"
        ft_kill
        [ -z "$failed" ] || { fail "($o)"; break; }
    done
    ft_twin_image=
}
# R1: no file of the disk is open in the twin before it has the claim.
shared_untouched() {
    ! find "/proc/$t_pid/fd" -lname '*/a.img' 2>/dev/null | grep -q . || fail "the twin has the disk open while it follows"
}

shared_sum() { sha256sum <a.img; }
shared_same() { # WHAT SECONDS: not a byte of the disk changes
    local before
    before=$(shared_sum)
    sleep "$2"
    [ "$(shared_sum)" = "$before" ] || fail "$1, and the disk changed"
}
shared_hold() { grep -q "\"hold\":\"$1\"" ft.out 2>/dev/null; }
shared_hold_bytes() { jq -r --arg w "$1" 'select(.hold == $w).held_bytes' ft.out; }

# Fails with: the primary's writes sent at once (pri_holds, epoch_holds return 0).
case_ft_shared_rule() { # the twin does not answer: nothing of the primary reaches the disk; it answers: all goes on
    local o
    ft_twin_image=a.img
    for o in "--commit verified" "--commit received" "--checkpoint"; do
        ft_start "nonet rate=100 noflush" || return
        # shellcheck disable=SC2086
        ft_protect --suspect 10000 --barrier 100000 $o || return
        ft_more 10 20
        kill -STOP "$t_pid"
        sleep 0.3
        shared_same "its twin was silent ($o)" 0.5
        kill -CONT "$t_pid"
        ft_more 10 20
        ft_signal KILL "$p_pid"
        ft_end live
        ft_check t
        ft_kill
        [ -z "$failed" ] || { fail "($o)"; break; }
    done
    ft_twin_image=
}

# Fails with: held writes written at once, a FLUSH that is answered at once, reads that are not patched.
case_ft_hold() { # the twin runs, its writes are held: not a byte reaches the disk, reads see them, no FLUSH is answered; a late write of the old host does not survive; then all of it is there
    local o n at
    ft_twin_image=a.img
    for o in "" "--checkpoint"; do
        # With a FLUSH after each record: none is told while it is held.
        ft_start "nonet rate=100" || return
        # shellcheck disable=SC2086
        ft_protect --hold 2500 $o || return
        ft_more 10 30
        ft_signal KILL "$p_pid"
        until_true 10 shared_hold begins || fail "not held: $(tail -1 ft.out)"
        sleep 0.3
        n=$(ft_seqs)
        sleep 0.7
        shared_hold excluded || [ "$(ft_seqs)" = "$n" ] || fail "$(($(ft_seqs) - n)) records were told to be durable while the disk was held"
        ft_end live
        [ "$(shared_hold_bytes over)" = 0 ] || fail "held still: $(grep hold ft.out | tail -1)"
        ft_check t
        echo "# flush $o: $ft_last records, held $(shared_hold_bytes excluded) bytes"
        ft_kill
        [ -z "$failed" ] || { fail "(flush $o)"; break; }
        # Without FLUSH it goes on; after its reset it looks for its newest record, which is nowhere but in memory.
        ft_start "nonet rate=100 noflush reset=120" || return
        # shellcheck disable=SC2086
        ft_protect --hold 4000 $o || return
        ft_more 10 20
        ft_signal KILL "$p_pid"
        until_true 10 shared_hold begins || fail "not held: $(tail -1 ft.out)"
        shared_same "held" 0.2
        until_true 10 grep -q 'newest=1[12][0-9] torn=0' t.console || fail "it does not find its records: $(grep -h newest= [pt].console | tail -1)"
        # The old host's write of an older record lands where the twin has held a newer one.
        at=$(sed -n 's/^seq=\([0-9]*\) .*/\1/p' t.console | tail -1)
        dd if=a.img of=a.img bs=4096 count=1 seek="$((at - 1))" conv=notrunc status=none
        shared_same "held" 0.2
        ! shared_hold excluded || fail "too late to say"
        ft_end live
        ft_check t
        echo "# noflush $o: $ft_last records, held $(shared_hold_bytes excluded) bytes"
        ft_kill
        [ -z "$failed" ] || { fail "(noflush $o)"; break; }
    done
    ft_twin_image=
}

case_ft_hold_ends() { # held, and frozen, and thawed: nothing is written; it ends: that is told, and nothing is written
    local before
    ft_twin_image=a.img
    ft_start "nonet rate=100 noflush" || return
    ft_protect --hold 60000 --for 60 || return
    ft_more 10 20
    ft_signal KILL "$p_pid"
    until_true 10 shared_hold begins || fail "not held: $(tail -1 ft.out)"
    ft_more 10 20
    kill -KILL "$ft_pid"
    before=$(shared_sum)
    "$talk" t.sock 2 2 freeze status save held.gms >talk.log && fail "it is saved while it is held"
    grep -q 'frozen.*its disks hold writes' talk.log || fail "freeze: $(tail -3 talk.log)"
    "$talk" t.sock 2 3 thaw 99 wait running 5000 >talk.log || fail "thaw: $(tail -1 talk.log)"
    ft_more 10 20
    [ "$(shared_sum)" = "$before" ] || fail "frozen and thawed while it is held, and the disk changed"
    "$talk" t.sock 2 4 kill >talk.log
    until_true 10 ft_over "$t_pid" || fail "it does not end"
    grep -q 'ends while its disks are held: [0-9]* bytes' t.log || fail "it does not tell what is lost: $(tail -2 t.log)"
    [ "$(shared_sum)" = "$before" ] || fail "it ended while it was held, and the disk changed"
    echo "# $(grep -o '[0-9]* bytes that it wrote.*' t.log)"
    ft_kill
    ft_twin_image=
}

# Fails with: no engine_hold_write() ("it ends while its writes are held").
case_ft_hold_off() { # it powers off while its writes are held: it ends when they are written, and all of them are
    local before
    ft_twin_image=a.img ft_off=1
    ft_start "nonet rate=100 noflush count=60" || return
    ft_protect --hold 3000 || return
    ft_more 10 5
    ft_signal KILL "$p_pid"
    until_true 10 shared_hold begins || fail "not held: $(tail -1 ft.out)"
    until_true 10 grep -q 'state=ending' t.log || fail "the guest does not power off: $(tail -1 t.log)"
    before=$(shared_sum)
    sleep 0.3
    ! ft_over "$t_pid" || shared_hold excluded || fail "it ends while its writes are held"
    [ "$(shared_sum)" = "$before" ] || shared_hold excluded || fail "held, and the disk changed"
    until_true 10 ft_over "$t_pid" || fail "it does not end: $(tail -1 t.log)"
    shared_hold excluded || fail "it ended before its old host was excluded"
    ! grep -q 'are lost' t.log || fail "$(grep 'are lost' t.log)"
    ft_check t
    [ "$ft_last" = 60 ] || fail "it ends at record $ft_last, not 60"
    ft_kill
    ft_twin_image= ft_off=
}

case_ft_shared_off() { # it powers off: all of it is on the disk; resets of the guest, then its primary dies; the twin dies; nothing is held when the primary's claim wins
    local what
    ft_twin_image=a.img
    for what in "" "--checkpoint"; do
        ft_start "nonet rate=100 count=60" || return
        # shellcheck disable=SC2086
        ft_protect $what || return
        ft_gone
        [ "$ft_last" = 60 ] || fail "it ends at record $ft_last, not 60"
        ft_kill
        ft_start "nonet rate=100 reset=20" || return
        # shellcheck disable=SC2086
        ft_protect $what || return
        until_true 20 ft_boots 3 || fail "no reset: $(tail -1 p.console; tail -1 p.log)"
        ft_signal KILL "$p_pid"
        ft_end live
        until_true 20 ft_boots 5 || fail "no reset after it went live"
        ft_check t
        ft_kill
        ft_start "nonet rate=100" || return
        # shellcheck disable=SC2086
        ft_protect $what || return
        ft_more 10 20
        ft_signal KILL "$t_pid"
        ft_end alone
        ft_check p
        ft_kill
        [ -z "$failed" ] || { fail "($what)"; break; }
    done
    ft_twin_image=
}

case_ft_shared_two() { # one disk of each kind: the twin gets its own copy first, the other one with its claim
    truncate -s 8M c.img
    ft_more_disks=(disk c.img)
    ft_start "nonet rate=100" --disk path=c.img,serial=second || return
    ft_more_disks=()
    ft_protect --shared c.img --hold 1000 || return
    ft_more 10 20
    ! find "/proc/$t_pid/fd" -lname '*/c.img' | grep -q . || fail "the twin has the shared disk open while it follows"
    ft_signal KILL "$p_pid"
    until_true 10 shared_hold begins || fail "not held: $(tail -1 ft.out)"
    [ "$(jq -r 'select(.hold == "begins").held' ft.out)" = 2 ] || fail "another disk is held: $(grep hold ft.out)"
    ft_more 10 20 # its own disk is held by nobody
    ft_end live
    find "/proc/$t_pid/fd" -lname '*/c.img' | grep -q . || fail "the twin has no shared disk"
    ft_check t
    ft_kill
}

# Fails with: no HELD of shared disks and no forgetting (a write whose bytes are the twin's own).
case_ft_shared_repair() { # the twin makes other bytes, other sectors, goes another way: nothing of it reaches the disk, repaired or not; the primary dies at once
    local what address mask blk
    need_root "another process's memory"
    ft_twin_image=a.img
    blk=$(guest_symbol blk)
    for what in output sectors control; do
        case $what in
        output) address=$((blk + 0x20)) mask=0x55 ;;
        sectors) address=$((blk + 0x19)) mask=2 ;;
        control) address=$(guest_symbol pulse_tick_to_debug) mask=1 ;;
        esac
        ft_start "nonet rate=100" || return
        ft_protect --suspect 2000 --diverge-max 100 || return
        ft_more 20 20
        twin_flip "$address" $mask || return
        until_true 10 ft_counts repairs 1 || fail "not repaired: $(ft_all)"
        ft_more 20 10
        repaired_lives
        echo "# $what: $ft_last records, $(ft_all)"
        ft_kill
        [ -z "$failed" ] || { fail "($what)"; break; }
    done
    ft_twin_image=
}

case_ft_hold_nbd() { # the same disk by the network: no write reaches the server while it is held
    local writes
    need_nbdkit || return
    ft_twin_image=a.img
    truncate -s 4M a.img
    ft_uri=$(nbd_uri)
    nbdkit -f -U "$PWD/n.sock" --filter=log file a.img logfile="$PWD/nbd.log" 2>>nbdkit.log &
    nbd_pid=$!
    pids+=("$nbd_pid")
    until_true 5 test -S n.sock || fail "nbdkit: $(tail -1 nbdkit.log)"
    ft_start "nonet rate=100 noflush reset=120" || return
    ft_protect --hold 3000 || return
    ft_more 10 20
    ft_signal KILL "$p_pid"
    until_true 10 shared_hold begins || fail "not held: $(tail -1 ft.out)"
    sleep 0.2
    writes=$(nbd_writes)
    until_true 10 grep -q 'newest=1[12][0-9] torn=0' t.console || fail "it does not find its records: $(grep -h newest= [pt].console | tail -1)"
    ! shared_hold excluded || fail "too late to say"
    [ "$(nbd_writes)" = "$writes" ] || fail "$(($(nbd_writes) - writes)) writes reached the server while they were held"
    ft_end live
    ft_check t
    echo "# $ft_last records, held $(shared_hold_bytes excluded) bytes, $writes and $(nbd_writes) writes"
    ft_kill
    nbd_down
    ft_uri='' ft_twin_image=
}
nbd_writes() { grep -c ' Write id=' nbd.log; }

# Fails with: writes that are not past the caches of the primary's host.
case_ft_shared_power() { # the primary's host loses power: what its guest was told is written is on the disk, flushed or not, for it goes on elsewhere
    need_root "a file system that loses what was not synced" || return
    local how last
    for how in lockstep --checkpoint; do
        lose_mount
        ft_image=disk/a.img ft_twin_image=disk/a.img
        ft_start "nonet rate=100 noflush" || return
        ft_protect ${how#lockstep} || return
        ft_more 10 30
        kill -STOP "$p_pid" "$t_pid"
        sleep 0.1
        lose_cut
        last=$(python3 "$trace" p.console 2>trace.err) || fail "$(tail -1 trace.err)"
        "$witness" check-disk backing/a.img --acked "$last" >witness.json 2>&1 || fail "after the power cut: $(tr '\n' ' ' <witness.json | cut -c1-300)"
        ft_kill
        echo "# $how: $last records"
        [ -z "$failed" ] || { fail "($how)"; break; }
    done
    ft_image=a.img ft_twin_image=
}

# Fails with: `through` that vmm/blk_nbd does not heed.
case_ft_shared_nbd_power() { # the machine of the NBD server loses power, and the primary with it: what the guest was told is written is there, flushed or not
    need_nbdkit || return
    need_root "a file system that loses what was not synced" || return
    local how last filters
    for how in lockstep --checkpoint no-fua; do
        lose_mount
        rm -f nbd.log n.sock
        ft_image=disk/a.img ft_twin_image=disk/a.img ft_uri=$(nbd_uri)
        truncate -s 4M disk/a.img
        filters=(--filter=log)
        [ "$how" != no-fua ] || filters+=(--filter=fua) # takes it away
        nbdkit -f -U "$PWD/n.sock" "${filters[@]}" file disk/a.img logfile="$PWD/nbd.log" 2>>nbdkit.log &
        nbd_pid=$!
        pids+=("$nbd_pid")
        until_true 5 test -S n.sock || fail "nbdkit: $(tail -1 nbdkit.log)"
        ft_start "nonet rate=100 noflush" || return
        case $how in --*) ft_protect $how || return ;; *) ft_protect || return ;; esac
        ft_more 10 30
        kill -STOP "$p_pid" "$t_pid"
        sleep 0.1
        lose_cut
        nbd_down
        last=$(python3 "$trace" p.console 2>trace.err) || fail "$(tail -1 trace.err)"
        "$witness" check-disk backing/a.img --acked "$last" >witness.json 2>&1 || fail "after the power cut: $(tr '\n' ' ' <witness.json | cut -c1-300)"
        ft_kill
        echo "# $how: $last records, $(nbd_writes) writes, $(grep -c ' Write id=.* fua=1' nbd.log) of them FUA, $(grep -c ' Flush id=' nbd.log) flushes"
        [ -z "$failed" ] || { fail "($how)"; break; }
    done
    ft_image=a.img ft_twin_image= ft_uri=
}
