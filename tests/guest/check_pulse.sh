#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pulse on a machine that is not ours: QEMU's microvm with TCG. So that guest and VMM cannot agree on the same mistake.
# TAP; no root, no KVM. What it counts is also the guest's own contract: instructions per answer, boot to readiness.
set -u
qemu=$(command -v qemu-system-x86_64) || { echo "1..0 # SKIP qemu-system-x86_64 is not installed"; exit 0; }
witness=$builddir/tests/guest/witness
rom=$builddir/tests/guest/pulse.rom
elf=$builddir/tests/guest/pulse.elf
dir=$(mktemp -d) || exit 99
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM HUP
n=0

# run CMDLINE [QEMU ARGUMENT...]: until the guest ends, 20 s at most. Console in $dir/console.
run()
{
	cmdline=$1
	shift
	timeout 20 "$qemu" -machine microvm,pic=on,pit=on,rtc=on,isa-serial=on,acpi=off -accel tcg -m 32M -nodefaults \
		-display none -no-reboot -pidfile "$dir/pid" -bios "$rom" -global virtio-mmio.force-legacy=false \
		-serial "file:$dir/console" -fw_cfg name=opt/gemel/cmdline,string="$cmdline" \
		-drive "file=$dir/disk,format=raw,if=none,id=d0,cache=unsafe" -device virtio-blk-device,drive=d0 \
		"$@" >"$dir/qemu" 2>&1
}

# Ends a run that was put into the background.
stop()
{
	[ -e "$dir/pid" ] && kill "$(cat "$dir/pid")" 2>/dev/null
	wait 2>/dev/null
}

disk() # BYTES
{
	rm -f "$dir/disk"
	dd if=/dev/zero of="$dir/disk" bs=1 count=0 seek="$1" 2>/dev/null
}

scribble() # OFFSET: 512 bytes that are no record
{
	dd if="$rom" of="$dir/disk" bs=512 count=1 seek=$(($1 / 512)) conv=notrunc 2>/dev/null
}

console() { grep -q -e "$1" "$dir/console"; }

disk_ok() # ACKED
{
	"$witness" check-disk "$dir/disk" --acked "$1" --console "$dir/console" >"$dir/report" 2>&1
}

# test NAME COMMAND...
test_that()
{
	n=$((n + 1))
	name=$1
	shift
	if "$@"; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		tail -n 12 "$dir/console" "$dir/qemu" "$dir/report" 2>/dev/null | sed 's/^/# /'
	fi
}

echo "1..20"
disk 1M
run "rate=500 count=20"
test_that "20 records on an empty disk" console '^done seq=20 epoch=0$'
test_that "they are on the disk" disk_ok 20
run "rate=500 count=5 epoch=3"
test_that "the next boot goes on" console '^seq=21 epoch=3$'
test_that "all are on the disk" disk_ok 25

scribble $((24 * 4096 + 2048))
run "rate=500 count=1 epoch=4"
test_that "a torn body at the end is seen" console 'newest=24 torn=1'
test_that "and written again" disk_ok 25
scribble $((24 * 4096))
run "rate=500 count=1 epoch=5"
test_that "a lost header at the end is passed over" console 'newest=24 torn=0'

disk 32768
run "rate=1000 count=29"
test_that "a ring of 8 slots goes around" disk_ok 29
run "rate=1000 count=1"
test_that "the newest is found after three laps" console 'newest=29 torn=0'
scribble $((5 * 4096 + 512))
run "rate=1000 count=3"
test_that "torn at slot 5 of lap four" console 'newest=29 torn=1'
test_that "the ring is whole again" disk_ok 32
scribble 0
run "rate=1000 count=1"
test_that "slot 0 damaged, the lap's end is the newest" console 'newest=32'
disk 8192
run "rate=1000 count=5"
run "rate=1000 count=1"
test_that "two slots are enough" console 'newest=5 torn=0'
disk 4096
run "rate=1000 count=1" &
sleep 1
stop
test_that "one slot is refused" console 'disk too small'

disk 1M
run "rate=100 count=60 dirty=20000:8 bogus ip=1.2.3 body=513"
test_that "dirtied memory keeps what was written" sh -c "! grep -q MEMORY '$dir/console' && grep -q '^done' '$dir/console'"
test_that "knobs not understood are named" console 'knob not understood: bogus'
run "rate=100 count=5 compute=10"
test_that "records while computing" console '^done seq=65'
run "hostile=all"
test_that "28 attacks, the device lives after each" sh -c "grep -q 'tried=28' '$dir/console' && ! grep -q 'dead after' '$dir/console'"

# An answer, from interrupt to halt: at most 500 instructions, counted by TCG one by one.
hlt=$(objdump -d "$elf" | awk '$NF == "hlt" {sub(":", "", $1); print $1}')
magic=$(objdump -d "$elf" | awk '/\$0x41555047/ {sub(":", "", $1); print $1}')
port=$((20000 + $$ % 20000))
disk 1M
run "ip=10.0.2.15 rate=0" -singlestep -d exec,nochain -D "$dir/exec" \
	-netdev "user,id=n0,hostfwd=udp:127.0.0.1:$port-10.0.2.15:7000" -device virtio-net-device,netdev=n0 &
sleep 1
"$witness" --target "127.0.0.1:$port" --every-ms 13 --seconds 2 >"$dir/report" 2>&1
status=$?
stop
test_that "it answers questions" [ $status -eq 0 ]
awk -v hlt="$hlt" -v magic="$magic" '
	BEGIN { split(hlt, a); for (i in a) is_hlt[a[i]]; split(magic, b); for (i in b) is_answer[b[i]] }
	/^Trace/ {
		split($0, part, "/"); pc = part[2]; sub("^0+", "", pc)
		if (pc == last) next	# a repeated string instruction counts once
		last = pc; count++
		if (pc in is_answer) answers++
		if (pc in is_hlt) {
			if (!halts++) printf "# instructions until the first halt: %d\n", count
			if (answers == 1) { one++; sum += count; if (!min || count < min) min = count }
			count = answers = 0
		}
	}
	END {
		if (one) printf "# %d answers, instructions from wake-up to halt: least %d, mean %.0f\n", one, min, sum / one
		exit !(one > 50 && sum / one <= 500)
	}' "$dir/exec" >"$dir/cost"
cost=$?
cat "$dir/cost"
test_that "an answer takes at most 500 instructions" [ $cost -eq 0 ]
