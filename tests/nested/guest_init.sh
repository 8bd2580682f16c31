#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest. Uses its disk and its network, checks what it reads, says GUEST-OK and powers off. On the kernel's
# command line: guest.peer=ADDRESS (who gives a file on port 9001 and takes one on 9000; none: no network), guest.ip=ADDRESS/BITS,
# guest.cpus=N (how many there must be), guest.count=N (counts so far, a number a second, each one on its disk before it is said:
# the guest of a suspend), guest.reboots=N (reboots so often before the rest, counted on its disk; a file
# "reboots" there says the same), guest.agent (plays the QEMU guest
# agent, and ends when that is told to), guest.hold (a shell on the console instead of the end).
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
peer='' ip='' cpus='' hold='' agent='' count='' reboots=''
# shellcheck disable=SC2013 # words, not lines
for word in $(cat /proc/cmdline); do
    case $word in
    guest.peer=*) peer=${word#*=} ;;
    guest.ip=*) ip=${word#*=} ;;
    guest.cpus=*) cpus=${word#*=} ;;
    guest.agent) agent=yes ;;
    guest.count=*) count=${word#*=} ;;
    guest.reboots=*) reboots=${word#*=} ;;
    guest.hold) hold=yes ;;
    esac
done
say() { echo "guest: $*"; }
sum() { md5sum | cut -d ' ' -f 1; }

stop() {
    [ -z "$hold" ] || setsid cttyhack sh
    poweroff -f
    sleep 3600 # whoever waits for the power-off sees that it does not come
}
bad() {
    say "BAD $*"
    dmesg | tail -n 15
    sync
    stop
}

while read -r module; do
    insmod "$module" || bad "$module cannot be loaded"
done </modules
say "up after $(cut -d ' ' -f 1 /proc/uptime) s; Linux $(uname -r), $(nproc) CPUs," \
    "clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)," \
    "disks$(cd /sys/block && for d in vd*; do printf ' %s' "$d"; done), nics$(cd /sys/class/net && for d in eth*; do printf ' %s' "$d"; done)"
say "flags $(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo | head -n 1)"
for device in /sys/bus/virtio/devices/*; do
    [ ! -e "$device" ] || say "$(basename "$device"): device $(cat "$device/device") on $(basename "$(dirname "$(readlink -f "$device")")")"
done
# The QEMU guest agent, as much of it as a VMM needs. udev would make the link.
play_agent() {
    exec 3<>"$1"
    while IFS= read -r line <&3; do
        case $line in
        *guest-sync-delimited*) printf '\377{"return": %s}\n' "$(echo "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')" >&3 ;;
        *guest-ping*) echo '{"return": {}}' >&3 ;;
        *guest-shutdown*powerdown*) : >/tmp/shutdown ;;
        *) echo '{"error": {"class": "CommandNotFound", "desc": "not here"}}' >&3 ;;
        esac
    done
}
if [ -n "$agent" ]; then
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
        mkdir -p /dev/virtio-ports
        ln -s "../$(basename "$port")" /dev/virtio-ports/org.qemu.guest_agent.0
    done
    [ -c /dev/virtio-ports/org.qemu.guest_agent.0 ] || bad "no port for the guest agent"
    play_agent /dev/virtio-ports/org.qemu.guest_agent.0 &
fi

if [ -n "$cpus" ] && [ "$(nproc)" != "$cpus" ]; then
    bad "$(nproc) CPUs, not $cpus"
fi

# The disk: a file written, synced, forgotten, and read again. A disk without a partition is formatted.
mkdir -p /mnt
part=/dev/vda1
used=disk
dd if=/dev/zero of=/tmp/zeros bs=1M count=1 2>/dev/null
if [ ! -b $part ]; then
    part=/dev/vda
    [ -b $part ] || bad "no disk"
    if [ -z "$reboots" ] && [ "$(cat /sys/block/vda/queue/discard_max_bytes)" != 0 ]; then
        dd if=/dev/urandom of=$part bs=1M seek=8 count=1 conv=fsync 2>/dev/null || bad "write before the discard"
        blkdiscard -o 8388608 -l 1048576 $part || bad "blkdiscard"
        echo 3 >/proc/sys/vm/drop_caches
        dd if=$part bs=1M skip=8 count=1 2>/dev/null | cmp - /tmp/zeros || bad "what was discarded does not read as zeros"
        used="$used discard"
    fi
    say "queues of the disk: $(ls /sys/block/vda/mq | wc -l)"
    if [ -z "$reboots" ] || ! mount -t ext4 $part /mnt 2>/dev/null; then
        mke2fs $part >/dev/null || bad "mke2fs"
    else
        umount /mnt
    fi
fi
mount -t ext4 $part /mnt || bad "mount"
head -c 524288 /dev/urandom >/tmp/proof
began=$(sed 's/ .*//; s/\.//' /proc/uptime)
dd if=/tmp/proof of=/mnt/proof bs=64k conv=fsync 2>/dev/null || bad "write"
say "wrote 512 KiB in $(($(sed 's/ .*//; s/\.//' /proc/uptime) - began))0 ms"
want=$(sum </mnt/proof)
umount /mnt || bad "umount"
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 $part /mnt || bad "mount again"
got=$(sum </mnt/proof)
[ "$got" = "$want" ] || bad "disk: wrote $want, read $got"
say "disk $got"

[ ! -e /mnt/reboots ] || reboots=$(cat /mnt/reboots)
if [ -n "$reboots" ]; then
    echo boot >>/mnt/boots
    sync
    if [ "$(wc -l </mnt/boots)" -le "$reboots" ]; then
        say "reboot $(wc -l </mnt/boots)"
        umount /mnt
        reboot -f
        sleep 3600
    fi
    used="$used reboots"
fi

# A number a second. All of them must be there in the end, whatever happened to the machine in between.
if [ -n "$count" ]; then
    i=0
    while [ $i -lt "$count" ]; do
        i=$((i + 1))
        { echo $i >>/mnt/count && sync; } || bad "number $i cannot be written"
        say "count $i, up $(cut -d ' ' -f 1 /proc/uptime), time $(date +%s)"
        sleep 1
    done
    umount /mnt || bad "umount after counting"
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 $part /mnt || bad "mount after counting"
    [ "$(cat /mnt/count)" = "$(seq "$count")" ] || bad "counted: $(tr '\n' ' ' </mnt/count)"
fi

# The network: a file down from the peer, another one up; the peer compares what came.
if [ -n "$peer" ]; then
    [ -e /sys/class/net/eth0 ] || bad "no network interface"
    { ip link set eth0 up && ip addr add "$ip" dev eth0; } || bad "eth0 cannot be set up"
    # Bits of VIRTIO 1.2, 5.1.3: checksums and segments both ways, merged buffers, announcements.
    wanted=yes
    for bit in 0 1 7 8 11 12 15 17 21; do
        [ "$(cut -c $((bit + 1)) /sys/class/net/eth0/device/features)" = 1 ] || wanted=
    done
    pairs=$(cd /sys/class/net/eth0/queues && echo rx-* | wc -w)
    say "queues of eth0: $pairs"
    ping -c 2 -W 5 "$peer" >/dev/null || bad "no answer to ping from $peer"
    mkfifo /tmp/open # an input without an end: who sees the end of one side's data ends
    nc -w 20 "$peer" 9001 <>/tmp/open >/tmp/down || bad "nothing could be fetched from $peer"
    say "down $(sum </tmp/down)"
    nc -w 20 "$peer" 9000 </mnt/proof || bad "nothing could be sent to $peer"
    used="$used net${wanted:+ offloads}"
    # Each pair has interrupts of its own, and each CPU sends by its own pair (XPS).
    if [ "$pairs" -gt 1 ]; then
        for cpu in 0 1; do
            taskset $((cpu + 1)) ping -c 4 -W 5 "$peer" >/dev/null || bad "no answer to ping from CPU $cpu"
        done
        grep -E 'virtio[0-9]+-(in|out)put[.]' /proc/interrupts | tr -s ' ' | while read -r irq; do say "interrupt $irq"; done
        busy=$(grep -E 'virtio[0-9]+-input[.]' /proc/interrupts | awk '$2 + $3 > 0' | wc -l)
        sent=0
        for q in /sys/class/net/eth0/queues/tx-*; do
            [ "$(tr -d '0,\n' <"$q/xps_cpus")" = "" ] || sent=$((sent + 1))
        done
        [ "$busy" != "$pairs" ] || [ "$sent" != "$pairs" ] || used="$used pairs=$pairs"
    fi
fi
[ ! -e /dev/hwrng ] || [ "$(head -c 16 /dev/hwrng 2>/dev/null | wc -c)" != 16 ] || used="$used rng"
if [ -n "$agent" ]; then
    i=0
    while [ ! -e /tmp/shutdown ]; do
        i=$((i + 1))
        [ $i -lt 600 ] || bad "the agent was not told to shut down"
        sleep 0.1
    done
    used="$used agent"
fi
umount /mnt || bad "last umount"
say "done after $(cut -d ' ' -f 1 /proc/uptime) s"
echo "GUEST-OK $used"
stop
