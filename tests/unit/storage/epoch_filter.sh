#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The epoch filter in a real nbdkit, with real clients (nbd_owner, libnbd). Needs no root. TAP on stdout.
set -u
builddir=$(cd "${1:-${builddir:-.}}" && pwd) || exit 1
owner_bin=$builddir/tests/unit/storage/nbd_owner
filter=$builddir/storage/nbdkit-gemel-epoch-filter.so
D=$(mktemp -d) || exit 1
count=0
failed=0
server=
declare -A owner_pid owner_in owner_out

cleanup() {
    trap - EXIT INT TERM
    for name in "${!owner_pid[@]}"; do kill -TERM "${owner_pid[$name]}" 2>/dev/null; done
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null
    wait 2>/dev/null
    rm -rf "$D"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# check WHAT WANTED GOT
check() {
    count=$((count + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $count - $1"
    else
        failed=$((failed + 1))
        echo "not ok $count - $1"
        echo "# wanted '$2', got '$3'"
    fi
}

# serve [FILTERS AND PARAMETERS...]: one export behind the epoch filter
serve() {
    rm -f "$D/s"
    nbdkit -f -U "$D/s" --filter="$filter" "$@" epochs="$D/epochs" >>"$D/log" 2>&1 &
    server=$!
    for _ in $(seq 500); do
        [ ! -S "$D/s" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.01
    done
    echo "Bail out! nbdkit does not serve: $(tail -n 1 "$D/log")"
    exit 1
}

unserve() {
    kill -KILL "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

# come OWNER EXPORT: its first line
come() {
    local in out
    mkfifo "$D/$1.in" "$D/$1.out"
    "$owner_bin" "$D/s" "$2" <"$D/$1.in" >"$D/$1.out" 2>/dev/null &
    owner_pid[$1]=$!
    exec {in}>"$D/$1.in" {out}<"$D/$1.out"
    owner_in[$1]=$in owner_out[$1]=$out
    rm "$D/$1.in" "$D/$1.out"
}
hear() {
    local line=nothing
    read -r -t 20 line <&"${owner_out[$1]}" || line="nothing"
    echo "$line"
}
tell() {
    local name=$1
    shift
    echo "$*" >&"${owner_in[$name]}"
}
ask() {
    tell "$@"
    hear "$1"
}
leave() {
    local in=${owner_in[$1]} out=${owner_out[$1]}
    exec {in}>&- {out}<&-
    kill -TERM "${owner_pid[$1]}" 2>/dev/null # others have its pipe open
    wait "${owner_pid[$1]}" 2>/dev/null
    unset "owner_pid[$1]"
}
# enter OWNER EXPORT: what came of it
enter() {
    come "$1" "$2"
    entered=$(hear "$1")
}
# refused EXPORT
refused() {
    "$owner_bin" "$D/s" "$1" </dev/null 2>/dev/null
}
said() {
    grep -c -- "$1" "$D/log"
}

mkdir "$D/epochs"
check "a directory without the file that says what it is" 1 \
    "$(nbdkit -f -U "$D/x" --filter="$filter" null 1M epochs="$D/epochs" 2>&1 | grep -c 'is its file system mounted? If it is new: touch')"
check "and nothing is made there" "" "$(ls -A "$D/epochs")"
touch "$D/epochs/gemel-epochs"
truncate -s 1M "$D/disk"

# What is wrong is said at the start.
check "no directory of epochs" 1 "$(nbdkit -f -U "$D/x" --filter="$filter" null 1M 2>&1 | grep -c 'give epochs=DIR')"
check "a directory that is not there" 1 "$(nbdkit -f -U "$D/x" --filter="$filter" null 1M epochs="$D/none" 2>&1 | grep -c "$D/none")"
check "a drain time that is none" 1 \
    "$(nbdkit -f -U "$D/x" --filter="$filter" null 1M epochs="$D/epochs" epoch-drain-ms=-1 2>&1 | grep -c 'give milliseconds')"
cat >"$D/one.sh" <<'S'
case $1 in
thread_model) echo serialize_connections ;;
get_size) echo 1048576 ;;
pread) exit 1 ;;
*) exit 2 ;;
esac
S
chmod +x "$D/one.sh"
check "a plugin that serves one connection at a time" 1 \
    "$(nbdkit -f -U "$D/x" --filter="$filter" sh "$D/one.sh" epochs="$D/epochs" 2>&1 | grep -c 'use another plugin')"

serve file "$D/disk"
check "a second server with the same directory" 1 \
    "$(nbdkit -f -U "$D/x" --filter="$filter" null 1M epochs="$D/epochs" 2>&1 | grep -c 'another server uses it')"

# The old writer loses.
enter a disk@3 && check "epoch 3 is let in" in "$entered"
check "it writes" "done" "$(ask a write 0 1 1)"
check "it is told the epoch" "gemel-epoch 3" "$(ask a description)"
enter look disk@0 && check "anybody may ask" in "$entered"
check "and learns the highest epoch" "gemel-epoch 3" "$(ask look description)"
check "but not write" "failed ESHUTDOWN" "$(ask look write 0 9 1)"
check "nor read" "failed ESHUTDOWN" "$(ask look read 0)"
leave look
check "who asked has changed nothing" "done" "$(ask a write 0 1 1)"
tell a write 0 3 1000000
enter b disk@5 && check "epoch 5 is let in while 3 writes" in "$entered"
check "epoch 5 writes" "done" "$(ask b write 0 5 1)"
check "epoch 3 was cut off" "failed ESHUTDOWN" "$(hear a)"
check "and stays so" "failed ESHUTDOWN" "$(ask a write 0 3 1)"
check "its FLUSH, too" "failed ESHUTDOWN" "$(ask a flush)"
check "its read, too" "failed ESHUTDOWN" "$(ask a read 0)"
check "no write of 3 came after 5 was let in" 5 "$(ask b read 0)"
leave a
check "epoch 4 is refused" "refused ENOENT" "$(refused disk@4)"
check "so is 3, back again" "refused ENOENT" "$(refused disk@3)"
check "so is who knows no epochs" "refused ENOENT" "$(refused disk)"
check "the log says why" 1 "$(said 'epoch 4 is over: a later owner, 5, was let in')"
check "epoch 5 has noticed nothing" "done" "$(ask b write 0 5 1)"
enter c disk@5 && check "epoch 5 may come again" in "$entered"
check "its first connection is over" "failed ESHUTDOWN" "$(ask b write 0 6 1)"
check "the second works" "done" "$(ask c write 0 7 1)"

# For ever, also after a restart.
unserve
leave b
leave c
serve file "$D/disk"
check "restarted: epoch 4 is refused" "refused ENOENT" "$(refused disk@4)"
check "restarted: who knows no epochs is refused" "refused ENOENT" "$(refused disk)"
enter d disk@5 && check "restarted: epoch 5 is let in" in "$entered"
check "restarted: and reads what it wrote" 7 "$(ask d read 0)"
leave d

# Rubbish.
for name in disk@ disk@x disk@-1 disk@06 disk@5@6 disk@18446744073709551616 "disk@5 " @ \
    "$(printf 'a%.0s' $(seq 300))@1"; do
    check "rubbish: ${name:0:30}" "refused ENOENT" "$(refused "$name")"
done
enter e ../../x@1 && check "a path as a name stays in the directory" in "$entered"
leave e
check "as a file with its name escaped" 1 "$(find "$D/epochs" -name 'epoch-..%2f..%2fx' | wc -l)"

# A spoilt file lets nobody in.
unserve
echo rubbish >"$D/epochs/epoch-disk"
serve file "$D/disk"
check "spoilt: refused" "refused ENOENT" "$(refused disk@9)"
check "spoilt: the log says what to do" 1 "$(said "write there 'gemel-epoch N'")"
unserve
rm "$D/epochs/epoch-disk"

# A slow backend: what the old one has under way is waited for, up to the limit.
serve --filter=delay file "$D/disk" wdelay=1 epoch-drain-ms=300
enter a disk@1 && check "slow: epoch 1 is let in" in "$entered"
check "slow: it writes without waiting" sent "$(ask a send 0 1)"
sleep 0.2
check "slow: epoch 2 is refused at the limit" "refused ENOENT" "$(refused disk@2)"
check "slow: the log says why" 1 "$(said '1 requests of the owner before are still under way after 300 ms')"
check "slow: epoch 1 is over all the same" "refused ENOENT" "$(refused disk@1)"
sleep 1
enter b disk@2 && check "slow: epoch 2 is let in when it is done" in "$entered"
check "slow: and finds it" 1 "$(ask b read 0)"
leave a
leave b
unserve
serve --filter=delay file "$D/disk" wdelay=500ms
enter a disk@3 && check "slow: epoch 3 is let in" in "$entered"
for sector in 0 1 2 3 4 5 6 7; do ask a send $sector 3 >>"$D/sent"; done
check "slow: 8 writes under way" 8 "$(grep -c sent "$D/sent")"
enter b disk@4 && check "slow: epoch 4 waits, and is let in" in "$entered"
before=$(ask b read 0)
tell a wait
verdict=$(hear a)
check "slow: what epoch 3 was answered is there" "$before $verdict" \
    "$(if [ "$verdict" = "done" ]; then echo "3 done"; else echo "$before failed ESHUTDOWN"; fi)"
check "slow: and nothing came later" "$before" "$(ask b read 0)"
leave a
leave b

# Many at once: one of them is in at the end, the one with the highest epoch.
for e in 11 12 13 14 15 16 17 18; do come "o$e" "disk@$e"; done
in=0
for e in 11 12 13 14 15 16 17 18; do [ "$(hear "o$e")" != in ] || in=$((in + 1)); done
check "at once: the highest is in" "done" "$(ask o18 write 0 18 1)"
works=0
for e in 11 12 13 14 15 16 17; do
    [ "$(ask "o$e" write 0 "$e" 1 2>/dev/null)" != "done" ] || works=$((works + 1))
done
check "at once: no other of the $in that came in writes" 0 "$works"
check "at once: what it wrote is there" 18 "$(ask o18 read 0)"
for e in 11 12 13 14 15 16 17 18; do leave "o$e"; done
unserve

# A plugin that does not look at the name: one export only.
serve file "$D/disk" epoch-export=disk
check "another name is refused" "refused ENOENT" "$(refused other@99)"
enter a disk@99 && check "the one that is served is not" in "$entered"
leave a
unserve
echo "1..$count"
[ "$failed" -eq 0 ]
