#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The witness's tap oracle on real taps and namespaces that come and go: all of it inside a user namespace, so no root,
# and nothing stays. TAP.
set -u
if [ -z "${CHECK_TAPS_INSIDE:-}" ]; then
	skip() { echo "1..0 # SKIP $*"; exit 0; }
	for need in unshare nsenter ip python3; do
		command -v $need >/dev/null || skip "$need is not installed"
	done
	unshare -Urn true 2>/dev/null || skip "user namespaces are not allowed here"
	[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
	CHECK_TAPS_INSIDE=1 exec unshare -Urn sh "$0"
fi

witness=$builddir/tests/guest/witness
mac=52:54:00:67:00:02
dir=$(mktemp -d) || exit 99
holders=
n=0
cleanup()
{
	for p in $holders; do kill "$p" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# namespace NAME: a fresh one behind $dir/NAME; what was there before is gone.
namespace()
{
	unshare -n sleep 60 &
	holders="$holders $!"
	i=0
	while [ "$(readlink /proc/$!/ns/net)" = "$(readlink /proc/self/ns/net)" ] && [ $i -lt 100 ]; do
		sleep 0.02
		i=$((i + 1))
	done
	ln -sfn "/proc/$!/ns/net" "$dir/$1"
}

# emit NAME TAP SECONDS: makes the tap, joins it to a bridge with another one, and sends as the guest, every 10 ms.
emit()
{
	nsenter --net="$dir/$1" python3 - "$2" "$3" $mac <<'END'
import fcntl, os, struct, subprocess, sys, time
name, seconds, mac = sys.argv[1], float(sys.argv[2]), bytes.fromhex(sys.argv[3].replace(":", ""))
def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    return fd
def ip(*args):
    subprocess.run(["ip", *args], check=True)
guest, neighbour = tap(name), tap("other-" + name)
ip("link", "add", "br-" + name, "type", "bridge", "forward_delay", "0")
for link in (name, "other-" + name):
    ip("link", "set", link, "master", "br-" + name, "up")
ip("link", "set", "br-" + name, "up")
time.sleep(0.1)
end = time.monotonic() + seconds
while time.monotonic() < end:
    os.write(guest, b"\xff" * 6 + mac + b"\x88\xb5" + bytes(50))
    os.write(neighbour, b"\xff" * 6 + b"\x52\x54\x00\x00\x00\x01" + b"\x88\xb5" + bytes(50))
    time.sleep(0.01)
ip("link", "del", "br-" + name)
END
}

# result STATUS PATTERN NAME: of the witness that ended last.
result()
{
	n=$((n + 1))
	if [ "$status" = "$1" ] && grep -q "$2" "$dir/report"; then
		echo "ok $n - $3"
	else
		echo "not ok $n - $3"
		echo "# exit $status, expected $1 and /$2/"
		sed 's/^/# /' "$dir/report" "$dir/err"
	fi
}

# watch SECONDS: in the background
watch()
{
	"$witness" --mac $mac --gap-ms 300 --seconds "$1" --tap "t*@$dir/n1" --tap "t*@$dir/n2" >"$dir/report" 2>"$dir/err" &
	watcher=$!
}

echo "1..5"
ip link set lo up
namespace n1
watch 7
emit n1 t0 1 # the tap came after the witness
namespace n2 # and so did this namespace
sleep 0.1
emit n2 t0 1
namespace n1 # the node was started again: another namespace, the same name
sleep 0.1
emit n1 t0 1
wait $watcher
status=$?
result 0 '"verdict":"ok"' "one live copy that moves is fine"
result 0 't0@[^"]*n1","events":[0-9]*,"intervals":2' "the rebuilt namespace is watched, too"
result 0 '"tap_drops":0,"unattributed_frames":0' "every frame is attributed"
events=$(grep -o '"events":[0-9]*' "$dir/report" | cut -d: -f2 | awk '{ sum += $1 } END { print sum + 0 }')
[ "$events" -ge 150 ] && [ "$(grep -o '"name":' "$dir/report" | wc -l)" -eq 2 ]
[ $? -eq 0 ] && status=0 || status=1
result 0 . "all of the guest's frames, none of the bridge's copies"
echo "# $events frames"

watch 3
emit n1 t1 2 &
sleep 0.5
emit n2 t1 1
wait $watcher
status=$?
result 1 '"dual_live":1' "two at once are found"
