#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest of standard-watchdog, with Debian's full kernel: Linux' i6300esb driver at work.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
say() { echo "guest: $* after $(cut -d ' ' -f 1 /proc/uptime) s"; }
[ ! -e /watchdog.ko ] || insmod /watchdog.ko
insmod /i6300esb.ko || say "the driver cannot be loaded"
dir=/sys/class/watchdog/watchdog0
say "watchdog $(cat $dir/identity), bootstatus $(cat $dir/bootstatus)"
if [ "$(cat $dir/bootstatus)" = 0 ]; then
    watchdog -F -T 4 -t 1 /dev/watchdog0 &
    sleep 8 # twice its time
    say "petted, alive"
    kill -KILL $!
    say "starving"
    sleep 60
    say "it did not bite"
fi
poweroff -f
sleep 60
