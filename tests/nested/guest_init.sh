#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest. Uses its disk and its network, checks what it reads, says GUEST-OK and powers off. On the kernel's
# command line: guest.peer=ADDRESS (who gives a file on port 9001 and takes one on 9000; none: no network), guest.ip=ADDRESS/BITS,
# guest.cpus=N (how many there must be), guest.count=N (counts so far, a number a second, each one on its disk before it is said:
# the guest of a suspend), guest.hold (a shell on the console instead of the end).
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
peer='' ip='' cpus='' hold='' count=''
# shellcheck disable=SC2013 # words, not lines
for word in $(cat /proc/cmdline); do
    case $word in
    guest.peer=*) peer=${word#*=} ;;
    guest.ip=*) ip=${word#*=} ;;
    guest.cpus=*) cpus=${word#*=} ;;
    guest.count=*) count=${word#*=} ;;
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
for device in /sys/bus/virtio/devices/*; do
    [ ! -e "$device" ] || say "$(basename "$device"): device $(cat "$device/device") on $(basename "$(dirname "$(readlink -f "$device")")")"
done
if [ -n "$cpus" ] && [ "$(nproc)" != "$cpus" ]; then
    bad "$(nproc) CPUs, not $cpus"
fi

# The disk: a file written, synced, forgotten, and read again. A disk without a partition is formatted.
part=/dev/vda1
if [ ! -b $part ]; then
    part=/dev/vda
    [ -b $part ] || bad "no disk"
    mke2fs $part >/dev/null || bad "mke2fs"
fi
mkdir -p /mnt
mount -t ext4 $part /mnt || bad "mount"
dd if=/dev/urandom of=/mnt/proof bs=64k count=8 conv=fsync 2>/dev/null || bad "write"
want=$(sum </mnt/proof)
umount /mnt || bad "umount"
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 $part /mnt || bad "mount again"
got=$(sum </mnt/proof)
[ "$got" = "$want" ] || bad "disk: wrote $want, read $got"
say "disk $got"

# A number a second. All of them must be there in the end, whatever happened to the machine in between.
if [ -n "$count" ]; then
    i=0
    while [ $i -lt "$count" ]; do
        i=$((i + 1))
        { echo $i >>/mnt/count && sync; } || bad "number $i cannot be written"
        say "count $i, up $(cut -d ' ' -f 1 /proc/uptime)"
        sleep 1
    done
    umount /mnt || bad "umount after counting"
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 $part /mnt || bad "mount after counting"
    [ "$(cat /mnt/count)" = "$(seq "$count")" ] || bad "counted: $(tr '\n' ' ' </mnt/count)"
fi

# The network: a file down from the peer, another one up; the peer compares what came.
used=disk
if [ -n "$peer" ]; then
    [ -e /sys/class/net/eth0 ] || bad "no network interface"
    { ip link set eth0 up && ip addr add "$ip" dev eth0; } || bad "eth0 cannot be set up"
    ping -c 2 -W 5 "$peer" >/dev/null || bad "no answer to ping from $peer"
    mkfifo /tmp/open # an input without an end: who sees the end of one side's data ends
    nc -w 20 "$peer" 9001 <>/tmp/open >/tmp/down || bad "nothing could be fetched from $peer"
    say "down $(sum </tmp/down)"
    nc -w 20 "$peer" 9000 </mnt/proof || bad "nothing could be sent to $peer"
    used="$used net"
fi
[ ! -e /dev/hwrng ] || [ "$(head -c 16 /dev/hwrng 2>/dev/null | wc -c)" != 16 ] || used="$used rng"
umount /mnt || bad "last umount"
say "done after $(cut -d ' ' -f 1 /proc/uptime) s"
echo "GUEST-OK $used"
stop
