# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # read by tests/kvm/run, whose variables and functions these are
# Cases of the disks of a protected VM (run_ft.sh has the rest): they come to the twin over the channel that brings its memory, while the guest
# writes to the first one. vmmft has every 2 MiB of memory and disks compared at the end (mig_verify). A second disk d.img has data that the
# guest does not touch. What each was seen to fail with: "fails with" below.

ftd_disks=(--disk a.img:b.img --disk d.img:e.img)

# The disks: d.img 64 MiB with 5.5 MB of data at odd places. The twin's copies: of a.img an empty file, of d.img one with other contents.
ftd_files() {
    rm -f [abde].img base
    truncate -s 16M a.img b.img
    truncate -s 64M d.img e.img
    head -c 5000000 /dev/urandom | dd of=d.img bs=4k seek=700 conv=notrunc status=none
    head -c 500000 /dev/urandom | dd of=d.img bs=1 seek=60000001 conv=notrunc status=none
    head -c 9000000 /dev/urandom | dd of=e.img bs=4k seek=100 conv=notrunc status=none
}

ftd_vmm() { # NAME IMAGE IMAGE
    ft_vmm "$1" "$2" --disk "path=$3,serial=data" --append "nonet rate=100"
    until_true 10 test -S "$1.sock" || fail "no control socket: $(tail -qn1 "$1.log")"
}

ftd_twin() { # a new process on the same copies
    rm -f t.*
    ftd_vmm t b.img e.img
    t_pid=$ft_vmm_pid
}

ftd_start() {
    rm -f [pt].* ft.out
    ftd_vmm p a.img d.img
    p_pid=$ft_vmm_pid
    ftd_twin
    "$talk" p.sock 1 1 disk a.img disk d.img start 1 >talk.log || { fail "start: $(tail -1 talk.log)"; return 1; }
    until_true 10 ft_has p ready || { fail "pulse does not start: $(tail -1 p.console)"; return 1; }
}

ftd_protect() { # OPTION...; $ftd_bytes: of disks, that went over the channel
    rm -f ft.out
    "$vmmft" p.sock t.sock --suspect "${ft_suspect:-500}" "${ftd_disks[@]}" --base-out base.new "$@" >ft.out 2>ft.err &
    ft_pid=$!
    pids+=("$ft_pid")
    until_true 30 ft_said primary on || { fail "not protected: $(tail -1 ft.out; tail -1 ft.err; tail -1 p.log; tail -1 t.log)"; return 1; }
    mv base.new base
    ftd_bytes=$(jq -s 'map(select(.copied))[0].disk_bytes' ft.out)
}

ftd_used() { du -B1 "$1" | cut -f1; }

# The whole of them: what differs, also in e.img what d.img has not; holes stay holes. Fails with: no second round, or no collect before the
# last one ("disk 0 differs in 1 of 8 blocks"); ZERO runs not written ("disk 1 differs").
case_ft_disk_sync() {
    local rounds
    ftd_files
    ftd_start || return
    ftd_protect --rate 5000000 || return # the first round takes a second: the guest goes on writing
    cmp -s d.img e.img || fail "the second disk differs"
    [ "$ftd_bytes" -ge 5500000 ] || fail "only $ftd_bytes bytes of disks went"
    [ "$ftd_bytes" -le 12000000 ] || fail "$ftd_bytes bytes of disks went, of 5.5 MB and what the guest writes"
    [ "$(ftd_used e.img)" -le 6500000 ] || fail "the copy of a sparse disk has $(ftd_used e.img) bytes"
    rounds=$(jq -s 'map(select(.copied))[0].rounds' ft.out)
    [ "$rounds" -ge 3 ] || fail "it was done in $rounds rounds"
    ft_more 10 50
    ft_signal KILL "$p_pid"
    ft_end live
    last=$(python3 "$trace" p.console t.console 2>trace.err) || fail "$(tail -1 trace.err)"
    "$witness" check-disk b.img --acked "${last:-0}" >witness.json 2>&1 || fail "disk of the twin: $(tr '\n' ' ' <witness.json | cut -c1-300)"
    echo "# $ftd_bytes bytes of disks in $rounds rounds: $(jq -c 'select(.copied)' ft.out)"
    ft_kill
}

# A lost twin's copies are brought up to date: only what was written since. A copy that is not known to be one, or of another base, is sent as a
# whole. Fails with: the marks since the base not kept ("disk 0 differs"); the base not compared ("disk 1 differs", of spoilt copies).
case_ft_disk_resync() {
    local n whole
    ftd_files
    ftd_start || return
    ftd_protect || return
    whole=$ftd_bytes
    ft_more 10 50
    for n in 1 2; do # the second time, too: its base is the first resync
        ft_signal KILL "$t_pid"
        ft_end alone
        ft_more 10 100
        ftd_twin
        ftd_protect --base base || return
        echo "# resync $n: $ftd_bytes bytes of disks, whole: $whole: $(jq -c 'select(.copied)' ft.out)"
        [ "$ftd_bytes" -gt 0 ] || fail "nothing of the first disk went"
        [ "$ftd_bytes" -lt 5000000 ] || fail "$ftd_bytes bytes went: more than what was written since"
        ft_more 10 20
    done
    ft_signal KILL "$t_pid"
    ft_end alone
    # others' copies: of nothing that this primary knows
    ftd_spoil
    echo 11111111-2222-4333-8444-555555555555 >base
    ftd_twin
    ftd_protect --base base || return
    [ "$ftd_bytes" -ge 5500000 ] || fail "a foreign copy was trusted: $ftd_bytes bytes went"
    cmp -s d.img e.img || fail "the second disk differs"
    ft_more 10 20
    ft_signal KILL "$p_pid"
    ft_end live
    last=$(python3 "$trace" p.console t.console 2>trace.err) || fail "$(tail -1 trace.err)"
    "$witness" check-disk b.img --acked "${last:-0}" >witness.json 2>&1 || fail "disk of the twin: $(tr '\n' ' ' <witness.json | cut -c1-300)"
    ft_kill
}
ftd_spoil() { head -c 300000 /dev/urandom | dd of=e.img bs=1 seek=2867200 conv=notrunc status=none; }

# Copies that cannot be: another size, not writable. The reason is told, the guest runs on.
case_ft_disk_refused() {
    ftd_files
    truncate -s 65M e.img
    ftd_start || return
    "$vmmft" p.sock t.sock "${ftd_disks[@]}" >ft.out 2>&1
    grep -q 'MiB on the source.*MiB here' ft.out || fail "the size: $(tail -1 ft.out)"
    ft_more 10 20
    ft_kill
}

# Writes that are under way when the guest is frozen: on a disk that takes 30 ms for each. Fails with: no collect behind the freeze ("disk 0
# differs").
case_ft_disk_slow() {
    local n
    need_root "a FUSE mount" || return
    ftd_files
    lose_mount
    truncate -s 16M backing/a.img
    ftd_disks=(--disk b.img --disk e.img)
    rm -f [pt].* ft.out
    ftd_vmm p disk/a.img d.img
    p_pid=$ft_vmm_pid
    ftd_twin
    "$talk" p.sock 1 1 disk disk/a.img disk d.img start 1 >talk.log || fail "start: $(tail -1 talk.log)"
    until_true 10 ft_has p ready || fail "pulse does not start: $(tail -1 p.console)"
    echo "delay 30" >&8
    for n in 1 2 3 4 5 6; do
        [ -z "$failed" ] || break
        ftd_protect --base base || break
        ft_signal KILL "$t_pid"
        ft_end alone
        ftd_twin
    done
    ftd_disks=(--disk a.img:b.img --disk d.img:e.img)
    echo heal >&8
    ft_kill
    lose_cut
}

# The twin's node loses its power when it has become one: its copies are what they were said to be. Fails with: no fdatasync at the ends of
# rounds ("disk 1 differs").
case_ft_disk_durable() {
    need_root "a FUSE mount" || return
    ftd_files
    lose_mount
    mv b.img e.img backing/
    ln -s disk/b.img b.img
    ln -s disk/e.img e.img
    ftd_start || return
    ftd_protect || return
    ft_more 10 20
    ft_signal KILL "$t_pid"
    lose_cut
    ft_end alone
    lose_mount
    ftd_twin
    ftd_protect --base base || return
    echo "# resync: $ftd_bytes bytes of disks"
    [ "$ftd_bytes" -lt 5000000 ] || fail "$ftd_bytes bytes went: more than what was written since"
    ft_more 10 20
    ft_kill
    lose_cut
}

# What both sides had under way when the primary died, and the twin's own disk fails it while it goes live: no answer was told, so it is paused,
# and asks again. Fails with: no machine_reissue.
case_ft_live_pause() {
    need_root "a FUSE mount" || return
    lose_mount
    ft_image=disk/a.img ft_twin_image=disk/b.img ft_disk_options=,on-error=pause
    ft_start "nonet rate=100 noflush" || return
    ft_protect --suspect 300 || return
    ft_more 10 20
    echo "delay 2000" >&8
    sleep 0.3
    ft_signal KILL "$p_pid"
    until_true 5 grep -q 'state=running' t.log || fail "it does not go live: $(tail -1 t.log)"
    ! grep -q 'VM is paused' t.log || fail "too late to say"
    echo "eio 1" >&8
    until_true 10 grep -q 'disk/b.img: Input/output error; the VM is paused' t.log || fail "it is not paused: $(tail -2 t.log)"
    kill -KILL "$ft_pid" 2>/dev/null # if it has not ended already: another agent goes on
    echo heal >&8
    "$talk" t.sock 2 2 wait frozen 10000 status thaw 99 wait running 5000 >talk.log || fail "thaw: $(tail -1 talk.log)"
    ft_more 10 20
    ft_check t
    "$talk" t.sock 2 3 status >talk.log
    grep -q 'state=running.*disk_failed=0' talk.log || fail "$(cat talk.log)"
    echo "# $ft_last records"
    ft_kill
    lose_cut
    ft_image=a.img ft_twin_image= ft_disk_options=
}
