# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2054,SC2154 # read by tests/kvm/run, whose variables and functions these are
# Cases of --record and --replay.

# Types of records (ft/ft_log.h) and of inputs (vmm/dev.h).
ft_input=2 ft_clock=3 ft_end=10
input_clock=1 input_key=2

# replay FILE OPTION...: its line in replay.out, its exit code in $replay_code; the console in replayed.log.
replay() {
    local file=$1
    shift
    rm -f replayed.log
    timeout 60 "$vmm_bin" --memory 16M --log replay.log --console-log replayed.log "$@" --replay "$file" >replay.out 2>&1
    replay_code=$?
}
expect_equal() { # LABEL FILE OPTION...
    local label=$1
    shift
    replay "$@"
    grep -q '^replay: equal: ' replay.out || fail "$label: $(tail -1 replay.out; tail -1 replay.log)"
    [ "$replay_code" = 0 ] || fail "$label: exit code $replay_code"
}
expect_difference() { # LABEL FILE OPTION...
    local label=$1
    shift
    replay "$@"
    grep -q '^replay: differs at exit [0-9]*: .' replay.out || fail "$label: $(tail -1 replay.out; tail -1 replay.log)"
    [ "$replay_code" = 1 ] || fail "$label: exit code $replay_code"
}
same_console() { cmp -s console.log replayed.log || fail "$1: the console of the replay is another"; }
power_off() { # the guest's power button; it ends by itself
    kill -TERM "$vmm_pid"
    expect_end 0 guest-shutdown
}

# beat.rom with some keys, each at a moment of its own.
record_beat() {
    local k
    vmm --firmware "$rom" --run --console console.sock --record beat.ft
    until_true 5 console_has beat || { fail "no banner"; return 1; }
    for k in x e y w; do
        keys console.sock "$k" 0.15 >/dev/null
    done
    keys console.sock q 0.1 >/dev/null
    expect_end 0 guest-shutdown
}

case_replay_pulse() { # a guest with a disk: recorded, replayed twice, without its disk being touched
    local sum at n
    truncate -s 4M d.img
    local options=(--firmware "$pulse" --append "nonet rate=100" --disk path=d.img)
    vmm "${options[@]}" --run --record p.ft
    until_true 10 seqs_reach 100 || fail "only $(seqs) records"
    power_off
    sum=$(sha256sum d.img)
    expect_equal first p.ft "${options[@]}"
    same_console first
    sed -n 's/^replay: /# /p' replay.out
    echo "# $(size p.ft) bytes of log"
    expect_equal second p.ft "${options[@]}"
    [ "$sum" = "$(sha256sum d.img)" ] || fail "the replay wrote to the disk"
    replay p.ft "${options[@]}" --until 500
    grep -q '^replay: stopped at exit 500, equal so far$' replay.out || fail "--until: $(cat replay.out)"
    grep -q '^rip=[0-9a-f]\{16\} rflags=' replay.out || fail "--until: no registers: $(cat replay.out)"
    [ "$replay_code" = 0 ] || fail "--until: exit code $replay_code"
    replay p.ft "${options[@]}" --until 99999999
    grep -q 'as recorded; the exit of --until is not in the recording$' replay.out || fail "--until beyond the end: $(cat replay.out)"
    # In single steps from there on: the same each time, one instruction a step, up to the next exit.
    for ((at = 500; at < 540; at++)); do # one with some instructions behind it, and not too many
        replay p.ft "${options[@]}" --until $at+3
        grep -q "^replay: stopped 3 instructions after exit $at, equal so far$" replay.out || continue
        replay p.ft "${options[@]}" --until $at+20000
        ! grep -q ': the next exit comes$' replay.out || break
    done
    replay p.ft "${options[@]}" --until $at+3
    cp replay.out at.3
    for n in 0 1 2 3 2; do
        replay p.ft "${options[@]}" --until $at+$n
        [ "$n" = 0 ] || grep -q "^replay: stopped $n instructions after exit $at, equal so far$" replay.out || fail "--until $at+$n: $(cat replay.out)"
        grep '=' replay.out >regs.out
        [ "$n" = 0 ] || ! cmp -s regs.out regs.$((n - 1)) || fail "--until $at+$n: the same as one before"
        [ ! -e at.$n ] || cmp -s replay.out at.$n || fail "--until $at+$n: other registers than before"
        cp replay.out at.$n
        cp regs.out regs.$n
    done
    replay p.ft "${options[@]}" --until $at+20000
    grep -q "^replay: stopped [0-9]* instructions after exit $at, equal so far: the next exit comes\$" replay.out || fail "--until $at+20000: $(cat replay.out)"
    want_code=2 expect_refusal 'not the number of an exit, nor N.K' --replay p.ft --until 5+x
    replay p.ft "${options[@]}" --until 500 --json
    jq -e '.good and .exits == 500 and (.registers.rip | startswith("0x"))' replay.out >/dev/null || fail "--json: $(cat replay.out)"
}

case_replay_keys() { # keys, ticks, an epoch
    record_beat || return
    expect_equal keys beat.ft --firmware "$rom"
    same_console keys
}

case_replay_compute() { # a guest that makes no exit: barriers
    truncate -s 4M d.img
    local options=(--firmware "$pulse" --append "nonet rate=50 compute=20 dirty=2000:2" --disk path=d.img)
    vmm "${options[@]}" --run --record p.ft
    until_true 10 seqs_reach 40 || fail "only $(seqs) records"
    kill -TERM "$vmm_pid"
    sleep 0.05
    kill -TERM "$vmm_pid" 2>/dev/null # in the middle of it
    until_true 10 ended || fail "it does not end"
    wait "$vmm_pid"
    [ "$("$taped" p.ft count 8)" -gt 10 ] || fail "no pages of barriers"
    expect_equal compute p.ft "${options[@]}"
    same_console compute
}

case_replay_strings() { # an instruction of many exits, and one ended in its middle
    vmm --firmware "$rom" --run --console console.sock --record s.ft
    until_true 5 console_has beat || { fail "no banner"; return; }
    keys console.sock o 0.2 >/dev/null
    kill -TERM "$vmm_pid"
    kill -TERM "$vmm_pid"
    sleep 0.1
    kill -TERM "$vmm_pid" 2>/dev/null
    expect_end 0 killed
    expect_equal strings s.ft --firmware "$rom"
}

case_replay_resets() { # resets by the guest and triple faults, one after the other, until it is given up
    truncate -s 4M d.img
    local what options
    for what in reset=5 crash=5; do
        rm -f console.log p.ft
        options=(--firmware "$pulse" --append "nonet rate=100 $what" --disk path=d.img)
        vmm "${options[@]}" --run --record p.ft
        sleep 1.5
        kill -TERM "$vmm_pid" 2>/dev/null
        until_true 10 ended || fail "$what: it does not end"
        wait "$vmm_pid"
        [ "$("$taped" p.ft count 6)" -gt 2 ] || fail "$what: $("$taped" p.ft count 6) resets"
        expect_equal "$what" p.ft "${options[@]}"
        same_console "$what"
    done
}

case_replay_freezes() { # under an agent: START, freezes in between, a new epoch with each
    local n
    vmm --firmware "$rom" --control c.sock --console console.sock --record f.ft
    "$talk" c.sock 1 1 start 3 >/dev/null || fail "start"
    until_true 5 reach 5 || fail "the guest does not run"
    for n in 4 5 6; do
        [ "$n" != 6 ] || keys console.sock s 0.1 >/dev/null # it computes: no exit to freeze at
        "$talk" c.sock 1 1 freeze sleep 50 thaw "$n" >talk.log || fail "freeze: $(cat talk.log)"
        sleep 0.1
    done
    "$talk" c.sock 1 1 kill >/dev/null
    expect_end 0 killed
    expect_equal freezes f.ft --firmware "$rom"
    # With a disk, and saved in between: what the disk answered while nobody was at a position must be in the file.
    truncate -s 4M d.img
    local options=(--firmware "$pulse" --append "nonet rate=100 compute=5" --disk path=d.img)
    rm -f console.log
    vmm "${options[@]}" --control c.sock --insecure-lab --record g.ft
    "$talk" c.sock 1 1 start 3 >/dev/null || fail "start"
    until_true 5 seqs_reach 5 || fail "only $(seqs) records"
    for n in 4 5 6 7; do
        "$talk" c.sock 1 1 freeze save "s.$n" thaw "$n" >talk.log || fail "save: $(cat talk.log)"
        until_true 5 seqs_reach $((n * 4)) || fail "only $(seqs) records"
    done
    "$talk" c.sock 1 1 kill >/dev/null
    expect_end 0 killed
    expect_equal saves g.ft "${options[@]}"
    same_console saves
    rm -f console.log
    vmm --firmware "$pulse" --append "nonet rate=100 compute=5" --disk path=d.img --run --restore s.7
    until_true 5 grep -qs "epoch=0" console.log || fail "what was saved while it was recorded does not run: $(tail -1 vmm.log)"
}

case_replay_kicks() { # kicks are no positions: the same while signals rain on the vCPU thread
    truncate -s 4M d.img
    local options=(--firmware "$pulse" --append "nonet rate=100 compute=20 dirty=2000:2" --disk path=d.img)
    vmm "${options[@]}" --run --record p.ft
    until_true 20 seqs_reach 60 || fail "only $(seqs) records"
    power_off
    "$vmm_bin" --memory 16M --log replay.log --console-log replayed.log "${options[@]}" --replay p.ft --insecure-lab >replay.out 2>&1 &
    python3 - $! <<'EOF' >kicks.log || fail "$(cat kicks.log)"
import ctypes, glob, random, sys, time
pid = int(sys.argv[1])
libc = ctypes.CDLL(None)
kick = libc.__libc_current_sigrtmin() + 1
tid, sent, end = None, 0, time.time() + 60
while time.time() < end:
    if tid is None:
        for t in glob.glob("/proc/%d/task/*" % pid):
            try:
                if open(t + "/comm").read().strip() == "vcpu0":
                    tid = int(t.split("/")[-1])
            except OSError:
                pass
    elif any(libc.syscall(234, pid, tid, kick) for _ in range(random.randrange(1, 20))):
        break
    else:
        sent += 1
    time.sleep(random.random() * 0.0003)
print("# %d bursts of kicks" % sent)
sys.exit(0 if sent > 50 else 1)
EOF
    wait $!
    cat kicks.log
    grep -q '^replay: equal: ' replay.out || fail "$(tail -1 replay.out; tail -1 replay.log)"
}

case_replay_cut() { # a recording that is torn anywhere, or damaged: a clear end, never a crash
    local len at
    record_beat || return
    len=$(size beat.ft)
    for at in 0 1 31 33 500 $((len / 3)) $((len / 2)) $((len - 1)) $((len - 9)) $((RANDOM * 7 % len)) $((RANDOM * 13 % len)); do
        head -c "$at" beat.ft >cut.ft
        replay cut.ft --firmware "$rom"
        [ "$replay_code" = 1 ] || fail "cut at $at of $len: exit code $replay_code"
        grep -q '^replay: the recording ends at exit [0-9]* (cut' replay.out || grep -q 'is no recording' replay.log ||
            fail "cut at $at of $len: $(cat replay.out)"
    done
    for at in 40 700 $((len / 2)) $((RANDOM * 7 % len)); do
        cp beat.ft bad.ft
        python3 -c 'import sys; f = open(sys.argv[1], "r+b"); n = int(sys.argv[2]); f.seek(n); b = f.read(1)[0]; f.seek(n)
f.write(bytes([b ^ 32]))' bad.ft "$at"
        replay bad.ft --firmware "$rom"
        [ "$replay_code" = 1 ] || fail "damaged at $at: exit code $replay_code"
    done
    head -c 100000 /dev/urandom >cut.ft
    replay cut.ft --firmware "$rom"
    grep -q 'is no recording' replay.log || fail "random bytes: $(tail -1 replay.log)"
    mkdir dir
    replay dir --firmware "$rom"
    grep -q 'dir: the recording cannot be read at byte 0: Is a directory' replay.log || fail "a directory: $(tail -1 replay.log)"
}

case_replay_spoilt() { # one record left out, altered, or moved by a position: it must be noticed
    local what n count at noticed=0
    record_beat || return
    count=$("$taped" beat.ft count $ft_input $input_key)
    [ "$count" = 5 ] || fail "$count keys in the log"
    for what in drop alter shift; do
        for n in 0 1 2 3 4; do
            # One that comes where the guest is awake may come an exit later without anybody noticing: taped passes those over.
            [ "$what" = shift ] && ! "$taped" beat.ft shift $ft_input $input_key "$n" bad.ft >/dev/null 2>&1 && [ "$n" -gt 0 ] && break
            at=$("$taped" beat.ft "$what" $ft_input $input_key "$n" bad.ft) || fail "taped"
            expect_difference "$what key $n (exit $at)" bad.ft --firmware "$rom"
        done
        [ "$what" = alter ] || for n in 3 20; do
            "$taped" beat.ft "$what" $ft_input $input_clock "$n" bad.ft >/dev/null || fail "taped"
            expect_difference "$what tick $n" bad.ft --firmware "$rom"
        done
    done
    "$taped" beat.ft late $ft_end 0 bad.ft >/dev/null || fail "taped"
    expect_difference "a late end" bad.ft --firmware "$rom"
    grep -q 'recorded its end at exit' replay.out || fail "a late end: $(cat replay.out)"
    count=$("$taped" beat.ft count $ft_clock)
    for ((n = 0; n < count && n < 5; n++)); do
        "$taped" beat.ft drop $ft_clock "$n" bad.ft >/dev/null || fail "taped"
        expect_difference "drop clock $n" bad.ft --firmware "$rom"
    done
    truncate -s 4M d.img
    vmm --firmware "$pulse" --append nonet --disk path=d.img --run --record p.ft
    until_true 10 seqs_reach 10 || fail "only $(seqs) records"
    power_off
    count=$("$taped" p.ft count $ft_clock)
    for ((n = 0; n < count; n++)); do
        "$taped" p.ft alter $ft_clock "$n" bad.ft >/dev/null || fail "taped"
        replay bad.ft --firmware "$pulse" --append nonet --disk path=d.img
        grep -q '^replay: differs' replay.out && noticed=$((noticed + 1))
    done
    # Some are read and not used: a device's time that the next input sets again.
    echo "# $noticed of $count altered clocks noticed"
    [ "$noticed" -gt 0 ] || fail "none of $count altered clocks was noticed"
}

case_replay_other() { # with other options than the recording: which
    local n
    record_beat || return
    truncate -s 1M d.img
    replay beat.ft --firmware "$rom" --memory 32M
    grep -q 'other options: --memory: recorded with 16777216 bytes, here 33554432' replay.log || fail "memory: $(tail -1 replay.log)"
    replay beat.ft --firmware "$pulse" --append x --disk path=d.img --on-triple-fault crash
    grep -q -- '--firmware: not the same file; --append: recorded with .*; --disk: recorded with 0, here 1; --on-triple-fault: recorded with reset' replay.log ||
        fail "$(tail -1 replay.log)"
    want_code=2 expect_refusal 'machine lockstep' --machine standard --run --record x.ft
    expect_refusal 'beat.ft is there already, and is not written over: remove it' --run --record beat.ft
    replay beat.ft --firmware "$rom"
    grep -q '^replay: equal: ' replay.out || fail "it was written to: $(tail -1 replay.log)"
    : >empty.img && ln empty.img other.img
    for n in "--disk path=empty.img" "--disk path=other.img" "--disk path=$PWD/empty.img" "--firmware other.img" "--console-log other.img"; do
        # shellcheck disable=SC2086
        expect_refusal "--record empty.img is the file of --${n:2:4}" $n --run --record empty.img
    done
    [ "$(size empty.img)" = 0 ] || fail "it was written to"
    expect_refusal '--record new.img is the file of --disk' --disk path=new.img --run --record new.img
    [ ! -e new.img ] || fail "it was made"
    want_code=2 expect_refusal 'needs --replay' --run --until 5
    want_code=2 expect_refusal 'give one of' --run --record x.ft --replay beat.ft
}

case_record_full() { # the file system of the recording is full: it ends, the VM goes on
    need_root "mounting a small file system" || return
    local n
    mkdir small
    mount -t tmpfs -o size=64k none small || { skip="no tmpfs"; return; }
    mounted=$PWD/small
    vmm --firmware "$pulse" --append "nonet nodisk tick=2" --run --record small/p.ft
    until_true 10 grep -q 'cannot write the recording small/p.ft: No space left' vmm.log || fail "nothing said: $(tail -1 vmm.log)"
    n=$(size debug.log)
    until_true 5 grew $((n + 100)) || fail "the guest does not go on"
    power_off
    replay small/p.ft --firmware "$pulse" --append "nonet nodisk tick=2"
    grep -q '^replay: the recording ends at exit [0-9]* (cut' replay.out || fail "its replay: $(cat replay.out)"
    umount "$mounted"
    mounted=
}

case_replay_steps() { # the oracle: payloads run free, under kicks and in single steps have the same exits; wrong ones are seen
    "$steps" >steps.log || fail "$(grep -E '^not ok|differs|not landed|Bail' steps.log | tr '\n' ';')"
    grep '^# ' steps.log
    "$steps" --wrong >wrong.log
    grep -q '^not ok .* - halts' wrong.log || fail "interrupts at kicks were not noticed"
}

case_replay_net() { # a guest that is asked over the network; replayed where there is none
    need_root "a network namespace" || return
    unshare -n "$self" "$build" --inside replay_net >inside.log 2>&1 || fail "$(grep -v '^#' inside.log | tail -3)"
    grep '^#' inside.log
}
inside_replay_net() {
    local options=(--firmware "$pulse" --append "ip=10.99.0.5 rate=100" --disk path=d.img --nic tap=gml0,mac=52:54:00:aa:bb:cc)
    truncate -s 4M d.img
    ip tuntap add dev gml0 mode tap
    ip addr add 10.99.0.1/24 dev gml0
    ip link set gml0 up
    vmm "${options[@]}" --run --record n.ft
    until_true 5 console_has ready || fail "pulse: $(tail -1 console.log)"
    ping -q -c 20 -i 0.05 -W 1 10.99.0.5 >ping.log || fail "ping: $(tail -3 ping.log | tr '\n' ' ')"
    sed -n 's/^rtt/# recorded: ping rtt/p' ping.log
    "$witness" --target 10.99.0.5 --seconds 1 >witness.json || fail "witness: $(cat witness.json)"
    power_off
    ip link del gml0
    expect_equal net n.ft "${options[@]}"
    same_console net
    sed -n 's/^replay: /# /p' replay.out
    "$taped" n.ft alter $ft_input 3 12 bad.ft >/dev/null || fail "taped" # a frame
    expect_difference "an altered frame" bad.ft "${options[@]}"
}
