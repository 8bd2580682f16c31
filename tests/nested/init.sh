#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the machine that runs gemel-vmm. Runs /command on ttyS1, its exit code goes to ttyS2.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=linux

# An initramfs cannot be pivoted away from, which a VMM's mount namespace wants to do; a tmpfs can.
if [ ! -e /is-tmpfs ]; then
    /bin/busybox mkdir /new
    /bin/busybox mount -t tmpfs -o size=90% root /new
    for f in /*; do
        case $f in /new | /proc | /sys | /dev) ;; *) /bin/busybox cp -a "$f" /new/ ;; esac
    done
    /bin/busybox mkdir -p /new/proc /new/sys /new/dev
    : >/new/is-tmpfs
    exec /bin/busybox switch_root /new /init
fi

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mkdir -p /dev/pts /dev/shm /tmp /run /out /guest
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
while read -r module; do
    insmod "$module" || echo "init: $module: cannot load" >/dev/ttyS1
done </modules
mount -t ext4 -o ro /dev/vda /guest || echo "init: no /guest" >/dev/ttyS1
ip link set lo up
hostname nested
stty -F /dev/ttyS1 raw
if [ -s /command ] && [ "$(cat /command)" ]; then
    (cd /tmp && exec sh /command </dev/null >/dev/ttyS1 2>&1)
else
    stty -F /dev/ttyS1 sane
    (cd / && exec setsid sh -c 'exec sh -i </dev/ttyS1 >/dev/ttyS1 2>&1') # its first open makes it the controlling terminal
fi
code=$?
if [ -b /dev/vdb ]; then
    tar -C /out -cf /dev/vdb .
    sync
fi
echo "$code" >/dev/ttyS2
stty -F /dev/ttyS2 >/dev/null # waits until it is sent
sleep 0.1
poweroff -f
