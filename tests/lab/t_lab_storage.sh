#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# labfs: what was not fsynced is lost with the power, what was is kept; and it is a file system otherwise.
# shellcheck disable=SC2016,SC1091 # what stands in single quotes is for eval, or for a shell in a node
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
lab_begin
check "up" lab a up --no-agents --nodes 3 || {
    tap_end
    exit 1
}

in_node() {
    lab a exec "$1" -- sh -c "$2"
}

cycle() {
    lab a power "$1" off && lab a power "$1" on
}

# --- names, in the node's own directory
in_node n1 'cd /var/lib/gemel && mkdir d && cd d &&
    for f in kept replaced removed renamed; do echo old >$f && sync $f || exit 1; done && sync . .. &&
    echo new >created && sync created &&
    echo new >tmp1 && sync tmp1 && mv tmp1 replaced &&
    mv renamed elsewhere &&
    rm removed &&
    ln kept linked &&
    mkdir sub && echo x >sub/y && sync sub/y'
check "before the power cut the node sees its changes" eval \
    'equal "$(in_node n1 "cd /var/lib/gemel/d; cat created replaced elsewhere linked sub/y; ls removed renamed tmp1 2>/dev/null")" \
    "$(printf "new\nnew\nold\nold\nx")"'
cycle n1
check "names whose directory was not fsynced are taken back" equal \
    "$(in_node n1 'cd /var/lib/gemel/d; ls; cat kept replaced removed renamed')" \
    "$(printf 'kept\nremoved\nrenamed\nreplaced\nold\nold\nold\nold')"
in_node n1 'cd /var/lib/gemel/d &&
    echo new >created && sync created &&
    echo new >tmp1 && sync tmp1 && mv tmp1 replaced &&
    mv renamed elsewhere && rm removed && ln kept linked && sync .'
cycle n1
check "names whose directory was fsynced are kept" equal \
    "$(in_node n1 'cd /var/lib/gemel/d; ls; cat created replaced elsewhere linked')" \
    "$(printf 'created\nelsewhere\nkept\nlinked\nreplaced\nnew\nnew\nold\nold')"
cycle n1
check "and stay after another power cut" equal "$(in_node n1 'cat /var/lib/gemel/d/replaced')" new

# --- names, in the shared directory
in_node n1 'cd /srv/gemel && echo x >temp && sync temp && ln temp owner.1'
check "a name in the shared directory is seen at once" equal "$(in_node n2 'cat /srv/gemel/owner.1')" x
cycle n1
check "and is there after the power cut" equal "$(in_node n1 'cat /srv/gemel/owner.1')" x

# --- link(2) decides between nodes
rounds=200
for node in n1 n2 n3; do
    in_node "$node" "cd /srv/gemel && echo $node >t-$node && sync t-$node &&
        while [ ! -e go ]; do :; done
        for i in \$(seq $rounds | shuf); do ln t-$node claim.\$i 2>/dev/null && echo \$i >>/run/won; done; true" &
done
sleep 0.5
in_node n2 'touch /srv/gemel/go'
wait
won=$(for node in n1 n2 n3; do in_node "$node" 'cat /run/won 2>/dev/null'; done | sort -n)
check "of three nodes that link the same name, one wins, each time" equal "$won" "$(seq $rounds)"
note "claims won: $(for node in n1 n2 n3; do in_node "$node" 'wc -l 2>/dev/null </run/won || echo 0'; done | tr '\n' ' ')"

# --- data
in_node n1 'cd /srv/gemel && dd if=/dev/zero of=f bs=4k count=64 conv=fsync 2>/dev/null &&
    yes A | head -c 4096 | dd of=f bs=4k seek=1 conv=notrunc,fdatasync 2>/dev/null &&
    yes B | head -c 4096 >/run/b && dd if=/run/b of=f bs=4k seek=2 oflag=direct conv=notrunc 2>/dev/null &&
    yes C | head -c 4096 >/run/c && dd if=/run/c of=f bs=4k seek=3 oflag=direct,dsync conv=notrunc 2>/dev/null &&
    truncate -s 1000 t1 && sync t1 && truncate -s 10 t1 && echo longer >>t1'
block() {
    in_node n1 "dd if=/srv/gemel/f bs=4k skip=$1 count=1 2>/dev/null | head -c 1 | tr '\\0' 0"
}
check "a node reads its own writes" eval 'equal "$(block 1)$(block 2)$(block 3)" ABC'
cycle n1
check "fdatasync is durable" equal "$(block 1)" A
check "O_DIRECT alone is not" equal "$(block 2)" 0
check "O_DSYNC is" equal "$(block 3)" C
check "a size that was not fsynced is not" equal "$(in_node n1 'stat -c %s /srv/gemel/t1')" 1000

lab a disk n1 writeback 50
in_node n1 'cd /srv/gemel && truncate -s 800k w && sync w && yes W | head -c 819200 | dd of=w bs=4k conv=notrunc 2>/dev/null'
cycle n1
kept=$(in_node n1 'tr -dc W </srv/gemel/w | wc -c')
note "with writeback 50: $((kept / 2048)) of 200 blocks were on the disk"
check "with writeback a random part is kept" test "$kept" -gt $((50 * 2048)) -a "$kept" -lt $((150 * 2048))
lab a disk n1 writeback 0

# --- records of the guest
printf 'GPLS' >"$LAB_SCRATCH/noise"
in_node n2 'mkdir /srv/gemel/vm1 && truncate -s 64k /srv/gemel/vm1/disk0.img'
record() { # SEQ: a record of 512 bytes; the crc comes from python
    python3 -c '
import struct, sys, zlib
h = struct.pack("<IIQQI", 0x534c5047, 512, int(sys.argv[1]), 7, 99)
sys.stdout.buffer.write(h + struct.pack("<I", zlib.crc32(h)) + bytes(480))' "$1"
}
record 5 | in_node n2 'dd of=/srv/gemel/vm1/disk0.img bs=512 seek=8 conv=notrunc 2>/dev/null'
log=$LAB_SCRATCH/a/log/storage.jsonl
check "a record is logged when it is submitted" equal \
    "$(jq -c '[.ev, .node, .vm, .path, .lba, .len, .epoch, .seq]' "$log")" '["submit","n2","vm1","vm1/disk0.img",8,512,7,5]'
in_node n2 'sync /srv/gemel/vm1/disk0.img'
check "and when it is durable" equal "$(jq -c '[.ev, .lba, .seq]' "$log" | tail -n 1)" '["durable",8,5]'
in_node n2 'dd of=/srv/gemel/vm1/disk0.img bs=512 seek=16 conv=notrunc,fsync 2>/dev/null' <"$LAB_SCRATCH/noise"
check "nothing else is" equal "$(wc -l <"$log")" 2

# --- speed
took=$(in_node n3 'LC_ALL=C dd if=/dev/zero of=/srv/gemel/speed bs=4k count=1000 oflag=direct,dsync 2>&1' |
    awk '/copied/ { for (i = 1; i <= NF; i++) if ($i == "s,") print $(i - 1) * 1000 }')
note "durable 4 KiB writes: $(awk "BEGIN { print $took / 1000 }") ms each"
check "a durable write of 4 KiB takes less than 1 ms" awk "BEGIN { exit !($took < 1000) }"

# --- faults do not hold the power switch
lab a disk n3 hang 1
in_node n3 'echo x >/srv/gemel/stuck' &
stuck=$!
sleep 0.3
check "power off while the storage hangs" timeout 10 "$LAB_BIN" --dir "$LAB_SCRATCH/a" power n3 off
wait "$stuck"
check "power on again" lab a power n3 on
check "a power cycle ends the fault of a disk" in_node n3 'timeout 5 ls /srv/gemel >/dev/null'
check "down" lab a down
tap_end
