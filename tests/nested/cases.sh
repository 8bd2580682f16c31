# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The cases of the nested bed; runs inside of it. usage: cases.sh [CASE...]. Each case is a function case_NAME, with a line in
# $all and its limit in seconds; it says `fail REASON` when something is wrong.

all="probe:60 pulse:60 steps:120 copy-ram:150 standard-bzimage:120 standard-smp:120 standard-mmio:120 standard-pvh:120 standard-devices:180 standard-limits:150 standard-cpu-baseline:120 standard-watchdog:180 standard-queues:150 standard-disk:150 standard-disk-mmio:150 standard-nbd:150
lockstep-bzimage:150 lockstep-pvh:150 lockstep-replay:600 lockstep-ft:600
standard-suspend:150 lockstep-suspend:180
standard-migrate:150 standard-postcopy:180 lockstep-migrate:180
standard-upgrade:150 lockstep-upgrade:180
standard-checkpoint:240
standard-reboot:200 lockstep-reboot:250"

# Run by name only: what they show is a part of the others.
more="lockstep-disk:200 standard-reboot-kernel:200 standard-shared:240"

failed=
during='' disk_at='' disk_more='' nic_more='' tap_more=''
fail() {
    failed="${failed:+$failed; }$*"
}
skip() { echo "$*" >skipped; }
note() { sed 's/^/# /' "$@"; }

# uptime in 1/100 s
now() { sed 's/ .*//; s/\.//' /proc/uptime; }

case_probe() { # gemel-vmm --probe sees a real KVM
    gemel-vmm --probe >probe.log 2>&1 || fail "gemel-vmm --probe ended with $?"
    note probe.log
}

case_pulse() { # the lockstep machine runs pulse to its first output
    truncate -s 1M disk.img
    gemel-vmm --memory 64M --firmware /guest/pulse.rom --append count=3 --disk path=disk.img --console-log console.log \
        --log vmm.log --run || fail "gemel-vmm ended with $?"
    grep -q '^seq=3 ' console.log || fail "no third record of pulse"
    note console.log
}

case_steps() { # the oracle of positions on this KVM, the FPU included: free and under kicks
    steps --fpu --kicks >steps.log 2>&1 || fail "steps ended with $?"
    note steps.log
    [ "$(grep -c '^ok' steps.log)" = 8 ] || fail "not all payloads passed"
    ! steps --wrong --kicks >wrong.log 2>&1 || fail "interrupts at kicks are not seen"
}

case_copy_ram() { # a running pulse moved between two engines, with this KVM's dirty log; two wrong ways are seen
    local how rc
    truncate -s 2M disk.img
    for how in "" --standard --plain --deaf --late; do
        # shellcheck disable=SC2086 # no word, or one
        timeout 60 copyram /guest/pulse.rom "$PWD/disk.img" --dirty 20000:1 $how >copyram.log 2>&1
        rc=$?
        note copyram.log
        case $how in
        --deaf | --late) [ $rc = 3 ] || fail "copyram $how ended with $rc: no page differs" ;;
        *) [ $rc = 0 ] || fail "copyram $how ended with $rc" ;;
        esac
    done
}

# The guest's network: a tap with an address, somebody who gives a file on port 9001 and takes one on 9000.
peer_up() {
    if [ -n "$tap_more" ]; then # busybox cannot
        ip-full tuntap add dev t0 mode tap multi_queue || fail "no tap with several queues"
    else
        tunctl -t t0 >/dev/null || fail "no tap"
    fi
    { ip addr add 10.77.0.1/24 dev t0 && ip link set t0 up; } || fail "no tap"
    head -c 300000 /dev/urandom >down
    nc -l -p 9001 <down >/dev/null &
    giver=$!
    mkfifo open # an input without an end
    nc -l -p 9000 <>open >up &
    taker=$!
}

peer_down() {
    kill "$giver" "$taker" 2>/dev/null
    ip link del t0
}

sum() { md5sum <"$1" | cut -d ' ' -f 1; }

# The image as it is after the guest's end, seen by another Linux than the guest's.
proof_on() { # IMAGE OFFSET
    mkdir -p mnt
    losetup -r -o "$2" /dev/loop0 "$1" && mount -t ext4 -o ro,noload /dev/loop0 mnt 2>mount.log && sum mnt/proof
    umount mnt 2>/dev/null
    losetup -d /dev/loop0
}

# talk COMMAND...: one report of the VMM at control.sock
talk() { vmmtalk control.sock 1 1 "$@" >>talk.log 2>&1 && tail -n 1 talk.log; }

# talk_until PATTERN SECONDS: the reports say it
talk_until() {
    end=$(($(now) + $2 * 100))
    until talk status | grep -q "$1"; do
        if [ "$(now)" -ge "$end" ]; then
            echo "no report with $1 in $2 s; the last is: $(tail -n 1 talk.log)" >>talk.failed
            return 1
        fi
        sleep 0.5
    done
}

# guest WORDS IMAGE OFFSET OPTION...: runs gemel-vmm until its guest has used disk and network and powered off, and checks both
# from outside. WORDS: what GUEST-OK must say.
guest() {
    words=$1 image=$2 offset=$3
    shift 3
    peer_up
    rm -f talk.failed
    [ -z "$during" ] || "$during" &
    gemel-vmm --memory 256M --disk "${disk_at:-path=$image}$disk_more" --nic "tap=t0,mac=52:54:00:77:00:02$nic_more" --console-log console.log --debug-log debug.log \
        --log vmm.log --exit-file exit.json --run "$@" 2>error.log
    code=$?
    peer_down
    if [ "$code" != 0 ]; then
        fail "gemel-vmm ended with $code"
        return
    fi
    [ ! -e talk.failed ] || fail "$(cat talk.failed)"
    tr -d '\r' <console.log | grep -E '^guest: |^GUEST-OK' >guest.log
    note guest.log
    grep -q '"reason":"guest-shutdown"' exit.json 2>/dev/null || fail "exit file: $(cat exit.json 2>&1)"
    # shellcheck disable=SC2086
    for word in $words; do
        grep -q "^GUEST-OK.* $word" guest.log || fail "the guest did not say GUEST-OK ... $word"
    done
    proof=$(sed -n 's/^guest: disk //p' guest.log | tail -n 1)
    [ "$(proof_on "$image" "$offset")" = "$proof" ] || fail "what the guest wrote is not in its image"
    [ "$(sum up)" = "$proof" ] || fail "what the guest sent did not arrive"
    [ "$(sum down)" = "$(sed -n 's/^guest: down //p' guest.log | tail -n 1)" ] || fail "what the guest fetched is not what was sent"
}

append="console=ttyS0 quiet panic=-1 guest.ip=10.77.0.2/24 guest.peer=10.77.0.1 $(cat /append)"

from_kernel() { # OPTION...: with the kernel's image and an empty disk
    truncate -s 16M disk.img
    case "$*" in
    *lockstep*) guest "disk net" disk.img 0 "$@" ;;
    *reboots*) guest "disk reboots net" disk.img 0 "$@" ;;
    *) guest "disk net offloads rng discard" disk.img 0 "$@" ;;
    esac
}

from_disk() { # OPTION...: with a firmware that looks for GRUB
    cp /guest/disk.img disk.img
    case " $* " in
    *lockstep*) guest "disk net" disk.img 1048576 --firmware /guest/bios-microvm.bin "$@" ;;
    *) guest "disk net rng" disk.img 1048576 --firmware /guest/bios-microvm.bin "$@" ;;
    esac
}

bz="--kernel /guest/vmlinuz --initrd /guest/initrd"

case_standard_bzimage() {
    # shellcheck disable=SC2086 # a list of words
    from_kernel --machine standard $bz --append "$append guest.cpus=1"
}

case_standard_nbd() { # its disk is a network disk, served by nbdkit
    command -v nbdkit >/dev/null || { fail "nbdkit is not installed outside: ci/deps"; return; }
    truncate -s 16M disk.img
    nbdkit -f -U n.sock file disk.img &
    server=$!
    until [ -S n.sock ]; do sleep 0.1; done
    disk_at="nbd=nbd+unix:///?socket=$PWD/n.sock"
    # shellcheck disable=SC2086
    guest "disk net offloads rng discard" disk.img 0 --machine standard --cpus 2 $bz --append "$append guest.cpus=2"
    disk_at=
    kill "$server"
    wait "$server" 2>/dev/null
}

case_standard_smp() {
    # shellcheck disable=SC2086
    from_kernel --machine standard --cpus 2 $bz --append "$append guest.cpus=2"
}

case_standard_mmio() {
    # shellcheck disable=SC2086
    from_kernel --machine standard --transport mmio $bz --append "$append"
}

# What an operator asks of a running guest.
during_devices() {
    talk_until agent=answers 100 || return
    talk_until 'free=[0-9]\{4,16\} ' 30
    before=$(ps -o rss,comm | awk '$2 == "gemel-vmm" { print $1 }')
    free=$(sed -n '$s/.* free=\([0-9]*\) .*/\1/p' talk.log)
    talk balloon 67108864 >/dev/null
    talk_until balloon=67108864/67108864 60
    sleep 11 # two requests for statistics
    talk status >/dev/null
    less=$((free - $(sed -n '$s/.* free=\([0-9]*\) .*/\1/p' talk.log)))
    [ $less -gt 33554432 ] || echo "64 MiB of balloon made the guest's free memory $less less" >>talk.failed
    note <<TEXT
resident before and after 64 MiB of balloon: $before $(ps -o rss,comm | awk '$2 == "gemel-vmm" { print $1 }')
TEXT
    talk balloon 0 >/dev/null
    talk_until balloon=0/0 60
    talk powerdown >/dev/null
}

case_standard_devices() { # rng, guest agent, balloon
    during=during_devices
    # shellcheck disable=SC2086
    from_kernel --machine standard --cpus 2 $bz --control control.sock --append "$append guest.agent"
    grep -q '^GUEST-OK.* agent' guest.log || fail "the agent was not told to shut down"
    grep -E 'took_us' talk.log | tail -n 1 | note
}

case_standard_limits() { # half a MiB at 128 KiB/s takes 4 s less what a burst is; the network at 256 KiB/s
    disk_more=,bps=128K,iops=200 nic_more=,bps=256K,pps=500
    # shellcheck disable=SC2086
    from_kernel --machine standard $bz --append "$append"
    took=$(sed -n 's/^guest: wrote 512 KiB in \(.*\) ms/\1/p' guest.log)
    [ "${took:-0}" -ge 2500 ] || fail "512 KiB at 128 KiB/s in $took ms"
}

case_standard_queues() { # a nic with two queue pairs, and both are used
    # shellcheck disable=SC2086
    nic_more=,queues=2 tap_more=yes
    from_kernel --machine standard --cpus 2 $bz --append "$append guest.cpus=2"
    grep -q '^GUEST-OK.* pairs=2' guest.log || fail "the guest does not use two queue pairs"
}

# MODEL without FEATURE...
model_without() {
    model=$1
    shift
    for feature in "$@"; do
        model=$(echo "$model" | sed "s/\([=,]\)$feature,/\1/; s/,$feature\$//")
    done
    echo "$model"
}

case_standard_cpu_baseline() { # the guest's /proc/cpuinfo has the features of its model, and no others
    host=$(gemel-vmm --cpu-model) || fail "gemel-vmm --cpu-model ended with $?"
    # XSAVE as well: KVM does not see the guest's XSETBV under TCG, and a guest that uses it falls over (doc/status.md).
    model=$(model_without "$host" xsave xsaveopt xgetbv1 avx avx2 fma f16c bmi1 bmi2 aes pclmulqdq adx abm)
    # shellcheck disable=SC2086
    from_kernel --machine standard $bz --append "$append" --cpu "$model"
    # Linux adds words of its own, and does not show what has a hyphen here.
    sed -n 's/^guest: flags //p' guest.log | tr ' ' '\n' |
        grep -vxE 'rep_good|nopl|cpuid|extd_apicid|tsc_known_freq|constant_tsc|nonstop_tsc|vmmcall|ssbd|ibrs|ibpb|stibp|3dnowprefetch|xtopology' | sort >seen
    echo "${model##*features=}" | tr ',' '\n' | grep -v -e '[-.]' -e '^kvmclock' | sort >promised
    [ "$(wc -l <promised)" -ge 40 ] || fail "a model with $(wc -l <promised) features"
    diff promised seen >diff.log || fail "the guest does not see the features of its model"
    gemel-vmm --machine standard $bz --memory 64M --run --cpu "${model},avx512f,sha_ni" 2>refused.log && fail "a model that this host has not is taken"
    grep -q 'this host cannot run its CPU model; it lacks: avx512f, sha_ni$' refused.log || fail "the refusal does not name what is missing"
}

case_standard_watchdog() { # Linux' own i6300esb driver: petted it waits, starved it bites, and the next life knows
    if [ ! -e /guest/full/vmlinuz ]; then
        skip "Debian's full kernel is not here (README.md)"
        return
    fi
    gemel-vmm --machine standard --memory 256M --kernel /guest/full/vmlinuz --initrd /guest/full/initrd \
        --append "console=ttyS0 quiet panic=-1" --console-log console.log --log vmm.log --exit-file exit.json --run || fail "gemel-vmm ended with $?"
    tr -d '\r' <console.log | grep '^guest: ' | note
    tr -d '\r' <console.log | grep '^guest: ' | sed 's/ after.*//' >said
    printf 'guest: watchdog i6300ESB timer, bootstatus 0\nguest: petted, alive\nguest: starving\nguest: watchdog i6300ESB timer, bootstatus 32\n' |
        diff - said >diff.log || fail "not two lives with a bite between them"
    [ "$(grep -c 'watchdog expired (times: 1)' vmm.log)" = 1 ] || fail "the bite is not told: $(grep -c 'watchdog expired' vmm.log) lines"
}

case_standard_pvh() {
    from_kernel --machine standard --kernel /guest/vmlinux --initrd /guest/initrd --append "$append"
}

case_standard_disk() { from_disk --machine standard; }

case_standard_disk_mmio() { from_disk --machine standard --transport mmio; }

# Frozen and saved in the middle of its counting, killed, and after a pause gone on from the file by another gemel-vmm.
suspended() { # OPTION...
    truncate -s 16M disk.img
    for life in 1 2; do
        gemel-vmm --memory 256M --disk path=disk.img --console-log "console$life.log" --log "vmm$life.log" --exit-file "exit$life.json" \
            --control "$PWD/control$life" "$@" 2>"error$life.log" &
        vmm=$!
        while [ ! -S "control$life" ] && kill -0 $vmm 2>/dev/null; do sleep 0.1; done
        if [ $life = 1 ]; then
            vmmtalk "$PWD/control1" 1 1 disk disk.img start 1 >talk1.log || fail "it does not start"
            while ! grep -q 'count 3,' console1.log && kill -0 $vmm 2>/dev/null; do sleep 0.2; done
            vmmtalk "$PWD/control1" 1 2 freeze save "$PWD/state.gms" kill >talk2.log || fail "it cannot be saved"
            wait $vmm
            sleep 20
        else
            vmmtalk "$PWD/control2" 2 1 disk disk.img restore "$PWD/state.gms" start 2 >talk3.log || fail "it cannot be restored"
            while ! grep -q 'count 6,' "console$life.log" && kill -0 $vmm 2>/dev/null; do sleep 0.2; done
            guest_time=$(tr -d '\r' <"console$life.log" | sed -n 's/.*count 6,.* time //p')
            late=$(($(date +%s) - ${guest_time:-0}))
            wait $vmm || fail "the second gemel-vmm ended with $?"
        fi
    done
    note talk2.log talk3.log
    cat console1.log console2.log | tr -d '\r' | grep -E '^guest: |^GUEST-OK' >guest.log
    note guest.log
    grep -q '^GUEST-OK disk' guest.log || fail "the guest did not say GUEST-OK disk"
    [ "$(grep -c '^guest: count' guest.log)" = 10 ] || fail "the guest did not count to 10, each once"
    grep -q '"reason":"guest-shutdown"' exit2.json 2>/dev/null || fail "exit file: $(cat exit2.json 2>&1)"
    echo "state.gms: $(stat -c %s state.gms) bytes" | note
}

# From one gemel-vmm to another while it counts, a number a second on its disk; then it uses disk and network, on another tap of
# the same bridge. All of its memory is compared before it goes on.
migrated() { # OPTION...
    truncate -s 16M disk.img
    ip-full link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up || fail "no bridge"
    for end in src dst; do
        tunctl -t "t$end" >/dev/null && ip-full link set "t$end" master br0 && ip link set "t$end" up || fail "no tap"
    done
    head -c 300000 /dev/urandom >down
    nc -l -p 9001 <down >/dev/null &
    giver=$!
    mkfifo open
    nc -l -p 9000 <>open >up &
    taker=$!
    for end in src dst; do # nobody waits half a minute for its agent
        gemel-vmm --uuid 33333333-3333-3333-3333-333333333333 --memory 256M --disk path=disk.img \
            --nic "tap=t$end,mac=52:54:00:77:00:02" --console-log "console$end.log" --log "vmm$end.log" --exit-file "exit$end.json" \
            --control "$PWD/$end" "$@" 2>"error$end.log" &
        eval "$end=\$!"
        while [ ! -S "$end" ] && kill -0 "$(eval "echo \$$end")" 2>/dev/null; do sleep 0.1; done
        if [ $end = src ]; then
            vmmtalk "$PWD/src" 1 1 disk disk.img start 1 >talk1.log || fail "it does not start"
            while ! grep -q 'count 3,' consolesrc.log && kill -0 "$src" 2>/dev/null; do sleep 0.2; done
        fi
    done
    # shellcheck disable=SC2086 # options
    vmmmove "$PWD/src" "$PWD/dst" ${how:---verify} --disk disk.img >move.json || fail "it does not move: $(cat move.json)"
    wait "$src"
    wait "$dst" || fail "the second gemel-vmm ended with $?"
    kill "$giver" "$taker" 2>/dev/null
    note move.json
    cat consolesrc.log consoledst.log | tr -d '\r' | grep -E '^guest: |^GUEST-OK' >guest.log
    note guest.log
    grep -q '^GUEST-OK disk.* net' guest.log || fail "the guest did not say GUEST-OK disk net"
    [ "$(grep -c '^guest: count' guest.log)" = 10 ] || fail "the guest did not count to 10, each once"
    grep -q "${says:-memory compared}" move.json || fail "not as it was wanted: ${says:-memory compared}"
    grep -q '"reason":"guest-shutdown"' exitdst.json 2>/dev/null || fail "exit file: $(cat exitdst.json 2>&1)"
    [ "$(sum up)" = "$(sed -n 's/^guest: disk //p' guest.log | tail -n 1)" ] || fail "what the guest sent did not arrive"
    [ "$(sum down)" = "$(sed -n 's/^guest: down //p' guest.log | tail -n 1)" ] || fail "what the guest fetched is not what was sent"
    for end in src dst; do ip link del "t$end"; done
    ip link del br0
}

case_standard_migrate() {
    # shellcheck disable=SC2086
    migrated --machine standard --cpus 2 $bz --append "$append guest.count=10"
}

# Half a second of copying, then it runs there, and its memory follows: what it does with disk and network meanwhile waits for its pages
# in the kernel, and ends with the same sums.
case_standard_postcopy() {
    how="--post-copy --timeout 500 --rate 16000000 --no-compress" says='post-copy: the last [1-9][0-9]* MiB'
    # shellcheck disable=SC2086
    migrated --post-copy --machine standard --cpus 2 $bz --append "$append guest.count=10"
    unset how says
}

case_lockstep_migrate() {
    # shellcheck disable=SC2086
    migrated --machine lockstep $bz --append "$append guest.count=10"
}

# A guest with a twin, which has its own copy of the disk. While the guest counts on its disk, and sends and fetches, its gemel-vmm is
# killed; the twin goes on, and the guest ends well: each number was said, the sums are right. vmmft plays the agents. With --shared in HOW
# both have the same disk.
protected() { # HOW GEMEL-VMM-OPTION...
    local how=$1
    shift
    truncate -s 16M disk.img && truncate -s 16M twin.img
    ip-full link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up || fail "no bridge"
    for end in pri twin; do
        tunctl -t "t$end" >/dev/null && ip-full link set "t$end" master br0 && ip link set "t$end" up || fail "no tap"
    done
    head -c 300000 /dev/urandom >down
    nc -l -p 9001 <down >/dev/null &
    giver=$!
    mkfifo open
    nc -l -p 9000 <>open >up &
    taker=$!
    disk=disk.img
    for end in pri twin; do
        gemel-vmm --uuid 33333333-3333-3333-3333-333333333333 --memory 256M --disk path=$disk \
            --nic "tap=t$end,mac=52:54:00:77:00:02" --console-log "console$end.log" --log "vmm$end.log" --exit-file "exit$end.json" \
            --control "$PWD/$end" "$@" 2>"error$end.log" &
        eval "$end=\$!"
        while [ ! -S "$end" ] && kill -0 "$(eval "echo \$$end")" 2>/dev/null; do sleep 0.1; done
        if [ $end = pri ]; then
            vmmtalk "$PWD/pri" 1 1 disk disk.img start 1 >talk1.log || fail "it does not start"
            while ! grep -q 'count 3,' consolepri.log && kill -0 "$pri" 2>/dev/null; do sleep 0.2; done
        fi
        case $how in *--shared*) ;; *) disk=twin.img ;; esac
    done
    case $how in *--shared*) ;; *) how="$how --disk disk.img:twin.img" ;; esac
    # shellcheck disable=SC2086 # options
    vmmft "$PWD/pri" "$PWD/twin" $how --suspect 2000 --for 120 >ft.log &
    ft=$!
    while ! grep -q '"state":"on"' ft.log && kill -0 $ft 2>/dev/null; do sleep 0.2; done
    said=$(grep -c 'count' consolepri.log)
    while ! grep -q "count $((said + 3))," consolepri.log && kill -0 $ft 2>/dev/null; do sleep 0.2; done
    kill -KILL "$pri"
    wait $ft || fail "nobody goes on: $(tail -n 2 ft.log)"
    wait "$twin" || fail "the twin ended with $?"
    kill "$giver" "$taker" 2>/dev/null
    grep -v '"exits"' ft.log | note
    grep '"exits"' ft.log | tail -n 2 | note
    grep -q '"end":"live"' ft.log || fail "the twin did not go live"
    cat consolepri.log consoletwin.log | tr -d '\r' | grep -E '^guest: |^GUEST-OK' >guest.log
    note guest.log
    grep -q '^GUEST-OK disk.* net' guest.log || fail "the guest did not say GUEST-OK disk net"
    # What left last before the end may have been said by both.
    [ "$(grep '^guest: count' guest.log | sed 's/,.*//' | uniq | wc -l)" = 20 ] || fail "the guest did not count to 20"
    grep -q '"reason":"guest-shutdown"' exittwin.json 2>/dev/null || fail "exit file: $(cat exittwin.json 2>&1)"
    [ "$(sum up)" = "$(sed -n 's/^guest: disk //p' guest.log | tail -n 1)" ] || fail "what the guest sent did not arrive"
    [ "$(sum down)" = "$(sed -n 's/^guest: down //p' guest.log | tail -n 1)" ] || fail "what the guest fetched is not what was sent"
    for end in pri twin; do ip link del "t$end"; done
    ip link del br0
}

case_standard_checkpoint() {
    # shellcheck disable=SC2086
    protected --checkpoint --machine standard --cpus 2 $bz --append "$append guest.count=20"
}

# The twin's writes are held for 5 s after it has gone live: its guest reads what it wrote, and waits with what it syncs.
case_standard_shared() {
    # shellcheck disable=SC2086
    protected "--checkpoint --shared disk.img --hold 5000" --machine standard --cpus 2 $bz --append "$append guest.count=20"
}

# From one gemel-vmm to the next one with the same memory, three times, while it counts, a number a second on its disk. vmmmove plays
# the agent.
upgraded() { # OPTION...
    truncate -s 16M disk.img
    vmm='' fixed="--uuid 33333333-3333-3333-3333-333333333333 --memory 256M --disk path=disk.img"
    for life in 1 2 3 4; do
        paths="--console-log console$life.log --log vmm$life.log --exit-file exit$life.json --control $PWD/c$life"
        if [ $life = 1 ]; then
            # shellcheck disable=SC2086
            gemel-vmm "$@" $fixed $paths 2>error1.log &
            vmm=$!
            while [ ! -S c1 ] && kill -0 $vmm 2>/dev/null; do sleep 0.1; done
            vmmtalk "$PWD/c1" 1 1 disk disk.img start 1 >talk1.log || fail "it does not start"
        else
            # shellcheck disable=SC2086
            vmmmove "$PWD/c$((life - 1))" "$PWD/c$life" --upgrade --verify --disk disk.img -- gemel-vmm "$@" $fixed $paths >move.json ||
                fail "upgrade $((life - 1)): $(cat move.json)"
            note move.json
            grep -q '256 MiB of memory handed over.*memory compared' move.json || fail "its memory was not handed over and compared"
            vmm=$(sed -n 's/.*"pid":\([0-9]*\),.*/\1/p' move.json)
        fi
        count=$((life * 2 + 1))
        while ! cat console?.log | grep -q "count $count," && kill -0 "${vmm:-0}" 2>/dev/null; do sleep 0.2; done
    done
    until [ -s exit4.json ] || ! kill -0 "${vmm:-0}" 2>/dev/null; do sleep 0.2; done
    cat console?.log | tr -d '\r' | grep -E '^guest: |^GUEST-OK' >guest.log
    note guest.log
    grep -q '^GUEST-OK disk' guest.log || fail "the guest did not say GUEST-OK disk"
    [ "$(grep -c '^guest: count' guest.log)" = 12 ] || fail "the guest did not count to 12, each once"
    grep -q '"reason":"guest-shutdown"' exit4.json 2>/dev/null || fail "exit file: $(cat exit4.json 2>&1)"
    [ ! -s exit1.json ] || grep -q killed exit1.json || fail "the first one ended: $(cat exit1.json)"
}

case_standard_upgrade() {
    # shellcheck disable=SC2086
    upgraded --machine standard --cpus 2 $bz --append "console=ttyS0 quiet panic=-1 guest.count=12 $(cat /append)"
}

case_lockstep_upgrade() {
    # shellcheck disable=SC2086
    upgraded --machine lockstep $bz --append "console=ttyS0 quiet panic=-1 guest.count=12 $(cat /append)"
}

case_standard_suspend() { # after 20 s the guest's time of day is right
    # shellcheck disable=SC2086
    suspended --machine standard --cpus 2 $bz --append "console=ttyS0 quiet panic=-1 guest.count=10 $(cat /append)"
    echo "the guest's clock is $late s late" | note
    [ "$late" -le 2 ] && [ "$late" -ge 0 ] || fail "the guest's clock is $late s late after a suspend of 20 s"
}

ft_side() { # SIDE: a gemel-vmm of it; pid_SIDE
    # shellcheck disable=SC2086
    gemel-vmm --machine lockstep $bz --uuid 33333333-3333-3333-3333-333333333333 --memory 128M --disk "path=$1.img,serial=ft" \
        --append "console=ttyS0 quiet panic=-1 guest.count=40 $(cat /append)" --console-log "console_$1.log" --log "vmm_$1.log" \
        --exit-file "exit_$1.json" --control "$PWD/c$1" 2>"error_$1.log" &
    eval "pid_$1=$!"
}

# A guest that counts on its mirrored disk, with a twin that is repaired at barriers; its primary is killed while it serves. Each
# number was on the disk before it was said: what was said and is not there in the end is lost. vmmft plays both agents.
case_lockstep_ft() {
    truncate -s 16M a.img b.img
    ft_side a
    # shellcheck disable=SC2154 # set by eval
    while ! [ -S ca ] && kill -0 "$pid_a"; do sleep 0.1; done
    vmmtalk "$PWD/ca" 1 1 disk a.img start 1 >talk_a.log || fail "it does not start"
    while ! grep -q 'count 3,' console_a.log && kill -0 "$pid_a" 2>/dev/null; do sleep 0.5; done
    ft_side b
    # shellcheck disable=SC2154 # set by eval
    while ! [ -S cb ] && kill -0 "$pid_b"; do sleep 0.1; done
    vmmft "$PWD/ca" "$PWD/cb" --disk a.img:b.img --suspect 3000 --diverge-max 1000000 --for 300 >ft.json 2>ft.err &
    ft=$!
    while ! grep -q 'count 20,' console_a.log && kill -0 "$pid_a" 2>/dev/null && kill -0 $ft 2>/dev/null; do sleep 0.5; done
    kill -9 "$pid_a"
    wait $ft
    grep '"exits"' ft.json | tail -n 2 >ft.end
    grep '"who"' ft.json | grep -v '"state":"\(barrier\|on\|replay\)"' | tail -n 6 >>ft.end
    tail -n 1 ft.json >>ft.end
    note ft.end
    grep 'diverged: \|only data differs' vmm_b.log | sed 's/.*twin: //; s/exit [0-9]*/exit N/g' | sort | uniq -c >classes.log
    note classes.log
    grep -q '"end":"live"' ft.json || fail "the twin did not take over: $(tail -n 1 ft.json) $(cat ft.err)"
    until [ -s exit_b.json ] || ! kill -0 "$pid_b" 2>/dev/null; do sleep 0.5; done
    cat console_a.log console_b.log | tr -d '\r' | grep -E '^guest: |^GUEST-OK' >guest.log
    note guest.log
    grep -q '^GUEST-OK disk' guest.log || fail "the guest did not say GUEST-OK disk: a number is lost"
    [ "$(grep -o '^guest: count [0-9]*,' guest.log | sort -u | wc -l)" = 40 ] || fail "not every number was said"
    grep -q '"reason":"guest-shutdown"' exit_b.json 2>/dev/null || fail "exit file: $(cat exit_b.json 2>&1)"
}

case_lockstep_suspend() {
    # shellcheck disable=SC2086
    suspended --machine lockstep $bz --append "console=ttyS0 quiet panic=-1 guest.count=10 $(cat /append)"
}

case_lockstep_bzimage() {
    # shellcheck disable=SC2086
    from_kernel --machine lockstep $bz --append "$append"
}

case_lockstep_pvh() {
    from_kernel --machine lockstep --kernel /guest/vmlinux --initrd /guest/initrd --append "$append"
}

# replay LABEL OPTION...: what it said, in replay.out; a recording that is not whole is a failure.
replay() {
    label=$1
    shift
    gemel-vmm --memory 256M --log replay.log --console-log replayed.log --replay r.ft "$@" >replay.out 2>&1
    echo "$label: $(tail -n 1 replay.out), $(wc -c <r.ft) bytes of log" | note
    grep -qE '^replay: (equal|differs)' replay.out || fail "$label: $(tail -n 1 replay.out) $(tail -n 1 replay.log)"
}

# pulse must be equal. Linux reads the TSC on interrupts, whatever CPUID says (design 7.1): where it first differs is told.
case_lockstep_replay() {
    truncate -s 1M disk.img
    gemel-vmm --memory 256M --firmware /guest/pulse.rom --append "count=20 compute=20" --disk path=disk.img --console-log console.log \
        --log vmm.log --record r.ft --run || fail "gemel-vmm ended with $?"
    replay pulse --firmware /guest/pulse.rom --append "count=20 compute=20" --disk path=disk.img
    grep -q '^replay: equal' replay.out || fail "pulse is not equal"
    rm -f disk.img r.ft
    # shellcheck disable=SC2086
    from_kernel --machine lockstep $bz --append "$append" --record r.ft
    # shellcheck disable=SC2086
    replay Debian --machine lockstep $bz --append "$append" --disk path=disk.img --nic tap=t0,mac=52:54:00:77:00:02
}

case_lockstep_disk() { from_disk --machine lockstep; }

# A guest that reboots, and boots again on a machine that its last life has used.
with_reboots() { # WORDS OPTION...
    words=$1
    shift
    cp /guest/disk.img disk.img
    mkdir -p mnt
    losetup -o 1048576 /dev/loop0 disk.img && mount -t ext4 /dev/loop0 mnt && echo 2 >mnt/reboots || fail "the image cannot be changed"
    umount mnt
    losetup -d /dev/loop0
    guest "$words" disk.img 1048576 --firmware /guest/bios-microvm.bin "$@"
    [ "$(grep -c '^guest: reboot' guest.log)" = 2 ] || fail "$(grep -c '^guest: reboot' guest.log) reboots, not 2"
}

case_lockstep_reboot() { with_reboots "disk reboots net" --machine lockstep; }

case_standard_reboot() { with_reboots "disk reboots net rng" --machine standard --cpus 2; }

case_standard_reboot_kernel() {
    # shellcheck disable=SC2086
    from_kernel --machine standard $bz --append "$append guest.reboots=2"
}

# ---- runner -----------------------------------------------------------------------------------------------------

run_one() { # NAME: prints what the case prints; its reason of failure goes to the file "failed"
    failed=
    "case_$(echo "$1" | tr - _)"
    echo "$failed" >failed
}

# run_case NAME LIMIT: in a process group of its own, of which nothing stays.
run_case() {
    setsid sh /cases.sh --one "$1" &
    case_pid=$!
    end=$(($(now) + $2 * 100))
    while kill -0 "$case_pid" 2>/dev/null && [ "$(now)" -lt "$end" ]; do sleep 0.1; done
    kill -KILL -- "-$case_pid" 2>/dev/null
    wait "$case_pid" 2>/dev/null
    ip link del t0 2>/dev/null
}

limit_of() { # NAME
    for entry in $all $more; do
        [ "${entry%:*}" != "$1" ] || echo "${entry#*:}"
    done
}

if [ "${1-}" = --one ]; then
    run_one "$2"
    exit
fi
[ $# -gt 0 ] || for entry in $all; do set -- "$@" "${entry%:*}"; done
echo "1..$#"
n=0 bad=0
for name in "$@"; do
    n=$((n + 1))
    mkdir -p "/tmp/$name" && cd "/tmp/$name" || exit 1
    began=$(now)
    limit=$(limit_of "$name")
    if [ -z "$limit" ]; then
        echo "there is no such case" >failed
    else
        echo "not over after $limit s" >failed
        run_case "$name" "$limit"
    fi
    took=$(($(now) - began))
    took="$((took / 100)).$((took % 100 / 10)) s"
    if [ -s failed ] && [ "$(cat failed)" ]; then
        bad=$((bad + 1))
        echo "not ok $n - $name"
        sed 's/^/#   /' failed
        for f in *.log; do
            [ ! -s "$f" ] || { echo "#   the end of $f:"; tail -n 12 "$f" | sed 's/^/#   | /'; }
        done
    elif [ -s skipped ]; then
        echo "ok $n - $name # SKIP $(cat skipped)"
    else
        echo "ok $n - $name # $took"
    fi
done
[ "$bad" = 0 ]
