#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The witness as a program: exit status and report, on made-up logs and disks. TAP; no root, no KVM.
set -u
witness=$builddir/tests/guest/witness
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
n=0

# expect STATUS PATTERN NAME -- COMMAND...
expect()
{
	status=$1 pattern=$2 name=$3
	shift 4
	n=$((n + 1))
	"$@" >"$dir/out" 2>"$dir/err"
	got=$?
	if [ $got -eq "$status" ] && cat "$dir/out" "$dir/err" | grep -q -e "$pattern"; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		echo "# exit $got, expected $status and /$pattern/"
		sed 's/^/# /' "$dir/out" "$dir/err"
	fi
}

line()
{
	echo "{\"t_ns\":$1,\"node\":\"$2\",\"vm\":\"web1\",\"lba\":0,\"epoch\":$3,\"seq\":$4}"
}

{ line 1000 n1 1 1; line 2000 n1 1 2; line 9000000000 n2 2 2; } >"$dir/sound.log"
{ cat "$dir/sound.log"; line 99000000000 n1 1 3; } >"$dir/old.log"
{ line 1000 n1 1 1; line 2000 n2 1 2; line 3000 n1 1 3; line 4000 n2 1 4; } >"$dir/two.log"
{ line 1000 n1 1 5; line 9000000000 n2 2 3; } >"$dir/lost.log"
line 99000000000 n1 1 3 >"$dir/late.log"
: >"$dir/empty.log"
dd if=/dev/zero of="$dir/empty.img" bs=4096 count=16 2>/dev/null

echo "1..16"
expect 0 '^usage: witness' "--help" -- "$witness" --help
expect 2 'nothing to watch' "no oracle is refused" -- "$witness"
expect 2 'needs --mac' "a tap without a MAC is refused" -- "$witness" --tap t0
expect 2 'not understood' "a bad number is refused" -- "$witness" --target 10.0.0.1 --every-ms 0
expect 0 '"verdict":"ok"' "sound log" -- "$witness" --storage-log "$dir/sound.log"
expect 1 '"old_epoch_writes":1' "old epoch write" -- "$witness" --storage-log "$dir/old.log"
expect 1 '"dual_live":1' "two writers" -- "$witness" --storage-log "$dir/two.log"
expect 1 '"lost_acked_writes":2' "lost acknowledged write" -- "$witness" --storage-log "$dir/lost.log"
expect 3 '"verdict":"blind"' "an empty log is no verdict" -- "$witness" --storage-log "$dir/empty.log"
expect 3 '"verdict":"blind"' "a missing log is no verdict" -- "$witness" --storage-log "$dir/none.log"
expect 1 '"log_writes":4,.*"old_epoch_writes":1' "several logs are one story" -- "$witness" --storage-log "$dir/sound.log" --storage-log "$dir/late.log"
expect 3 'could not be read' "one of two logs is missing: no verdict" -- "$witness" --storage-log "$dir/sound.log" --storage-log "$dir/none.log"
expect 3 '"blind":"no answer"' "nobody answers" -- "$witness" --target 127.0.0.1:9 --seconds 1 \
	--progress "$dir/progress"
expect 0 '^ *0  *0  *0$' "and the progress file says so" -- cat "$dir/progress"
expect 2 'none/progress: No such file' "a progress file that cannot be made" -- "$witness" --target 127.0.0.1:9 --progress "$dir/none/progress"
expect 1 '"lost_acked_writes":7' "an empty disk has lost everything" -- "$witness" check-disk "$dir/empty.img" --acked 7
