#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# gemel-fenced with fake agents of every bad behaviour: topology, one action per device, limits, state directory.
# Needs no root. TAP on stdout.
set -u
builddir=${1:-${builddir:-.}}
fenced=$builddir/gemel-fenced
ask_bin=$builddir/tests/lab/fence_ask
D=$(mktemp -d)
fenced_pid=
helpers=()
count=0
failed=0

cleanup() {
    trap - EXIT INT TERM
    for pid in $fenced_pid ${helpers[@]+"${helpers[@]}"}; do kill -TERM "$pid" 2>/dev/null; done
    # An agent that hangs outlives a fenced that was killed: the groups that run a program of this directory.
    for pid in /proc/[0-9]*; do
        ! grep -qsF "$D/agents/" "$pid/cmdline" || kill -KILL -- "-${pid#/proc/}" 2>/dev/null
    done
    [ -z "$fenced_pid" ] || wait "$fenced_pid" 2>/dev/null
    rm -rf "$D"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

now_ms() { echo $(($(date +%s%N) / 1000000)); }
ok() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else
        echo "not ok $count - $2"; failed=$((failed + 1)); tail -5 "$D/out" | sed 's/^/# /'
    fi
}

# One agent; port=NAME names its state: NAME.mode, NAME.power, NAME.log.
mkdir -m 700 "$D/agents" "$D/secrets"
cat >"$D/agents/fence_fake" <<EOF
#!/bin/bash
D=$D
port='' action=''
[ ! -e "\$D/start_slow" ] || sleep 0.6
while IFS== read -r k v; do case \$k in port) port=\$v;; action) action=\$v;; esac; done
[ -n "\$port" ] || exit 1
exec 9>>"\$D/\$port.lock"
flock -n 9 || echo "two at once" >>"\$D/violations"
mode=\$(cat "\$D/\$port.mode"); echo "\$action" >>"\$D/\$port.log"
power() { if [ "\$(cat "\$D/\$port.power")" = 1 ]; then exit 0; else exit 2; fi; }
case \$mode in
hang) trap '' TERM; sleep 1000 9>&- & while :; do sleep 1; done;;
flood) head -c 300000000 /dev/zero; exit 0;;
garbage) head -c 100000 /dev/urandom; exit 77;;
crash) kill -SEGV \$\$;;
bomb) trap '' TERM; for i in \$(seq 200); do sleep 1000 9>&- & done; while :; do sleep 1; done;;
slow) sleep 1;;
esac
case \$action in
off) [ "\$mode" = lie ] || echo 0 >"\$D/\$port.power"; exit 0;;
on) echo 1 >"\$D/\$port.power"; exit 0;;
status) power;;
monitor) exit 0;;
esac
exit 1
EOF
chmod 700 "$D/agents/fence_fake"
devices=
for d in a b c1 c2 d1 d2 e f g h; do
    case $d in c*) node=nc;; d*) node=nd;; *) node=n$d;; esac
    case $d in d2) level=2;; *) level=1;; esac
    devices="$devices
    - {name: $d, agent: fence_fake, node: $node, level: $level, timeout: 4s, params: {port: $d}}"
done
nodes='' id=0
for n in na nb nc nd ne nf ng nh nx; do id=$((id + 1)); nodes="$nodes
    - {name: $n, id: $id, addr: 10.0.0.$id}"; done
cat >"$D/cluster.yaml" <<EOF
cluster:
  name: t2
  nodes:$nodes
storage: {type: nfs, settle: 5s}
fence:
  retry: 200ms
  devices:$devices
EOF
well() { for d in a b c1 c2 d1 d2 e f g h; do echo ok >"$D/$d.mode"; echo 1 >"$D/$d.power"; : >"$D/$d.log"; done; }
well

fenced_start() { # ARGS...
    "$fenced" --socket "$D/fenced.sock" --secrets "$D/secrets" --state "$D/state" --agents "$D/agents" \
        --log "$D/fenced.log" --foreground "$@" &
    fenced_pid=$!
    for _ in $(seq 100); do [ -S "$D/fenced.sock" ] && return; sleep 0.02; done
}
fenced_kill() { kill -KILL "$fenced_pid"; wait "$fenced_pid" 2>/dev/null; rm -f "$D/fenced.sock"; }
ask() {
    local t; t=$(now_ms)
    "$ask_bin" --socket "$D/fenced.sock" "$@" >"$D/out" 2>&1; code=$?
    ms=$(($(now_ms) - t)); result=$(tail -1 "$D/out" | cut -d' ' -f1)
}
bg() { "$ask_bin" --socket "$D/fenced.sock" "$@" >/dev/null 2>&1 & helpers+=($!); }
uid() { cat /proc/sys/kernel/random/uuid; }
children() { tr -d '\n' <"/proc/$fenced_pid/task/$fenced_pid/children"; }

fenced_start
ask --config "$D/cluster.yaml" config
[ $code = 0 ]; ok $? "cluster definition accepted"
ask off na
[ $code = 0 ] && [ "$(tr '\n' ' ' <"$D/a.log")" = "off status " ]; ok $? "off, then one reading: ${ms} ms"
[ -z "$(children)" ] || sleep 0.2
[ -z "$(children)" ]; ok $? "no process is left"

# Levels and devices
ask off nc
[ $code = 0 ] && [ "$(cat "$D/c1.power" "$D/c2.power" | tr -d '\n')" = 00 ]; ok $? "two supplies, both off"
well; echo lie >"$D/c2.mode"; ask --timeout 3000 off nc
[ $code = 1 ] || [ $code = 3 ] && grep -q 'c2 says on' "$D/out"; ok $? "two supplies, one lies: $result"
well; echo 0 >"$D/c1.power"; ask status nc
[ $code = 1 ]; ok $? "two supplies, one off: the node is on"
[ "$(children | wc -w)" = 2 ]; ok $? "two agents wait for the off that may follow and its reading"
ask off nc
[ $code = 0 ] && [ -z "$(children)" ]; ok $? "that off uses them up: ${ms} ms"
well; touch "$D/start_slow"; ask status na; cold=$ms; sleep 0.8; ask off na
[ $code = 0 ] && [ "$(tr '\n' ' ' <"$D/a.log")" = "status off status " ] && [ $ms -lt 500 ]
ok $? "agents that start slowly: status $cold ms, the off after it $ms ms"
well; echo 0 >"$D/a.power"; bg status na; sleep 0.3; ask --timeout 9000 off na
[ $code = 0 ] && [ "$(tr '\n' ' ' <"$D/a.log")" = "status off status " ] && [ ! -e "$D/violations" ]
ok $? "a reading under way may finish before the off: ${ms} ms"
rm "$D/start_slow"
well; echo hang >"$D/a.mode"; bg --timeout 9000 status na; sleep 0.3; echo ok >"$D/a.mode"; ask --timeout 9000 off na
[ $code = 0 ] && [ $ms -gt 500 ] && [ $ms -lt 2500 ]; ok $? "but not for ever: ${ms} ms"
well; echo garbage >"$D/d1.mode"; ask --timeout 10000 off nd
[ $code = 0 ] && grep -q device=d2 "$D/out"; ok $? "level 1 talks garbage, level 2 confirms: ${ms} ms"
well; echo hang >"$D/d1.mode"; ask --timeout 20000 off nd
[ $code = 0 ] && grep -q device=d2 "$D/out" && [ $ms -lt 6000 ]; ok $? "level 1 hangs, level 2 confirms: ${ms} ms"

# Bad agents. Nothing of them stays, and the daemon stays small.
for mode in hang garbage crash bomb; do
    # For hang: off and its reading both run into their own time, long before the request's. Neither is an answer.
    limit=3000; [ $mode = hang ] && limit=11000
    well; echo $mode >"$D/b.mode"; ask --timeout $limit off nb
    [ $code = 3 ] && [ $ms -lt $((limit + 2500)) ] && grep -q '^pending' "$D/out"; ok $? "agent: $mode: $result after ${ms} ms"
done
well; echo flood >"$D/b.mode"; ask --timeout 6000 off nb
[ $code = 1 ] || [ $code = 3 ]; ok $? "agent that floods us with 300 MB each time and exits 0 (off: done, status: on): $result after ${ms} ms"
sleep 0.5
[ -z "$(children)" ]; ok $? "no process is left of any of them"
rss=$(awk '/^VmRSS/ {print $2}' "/proc/$fenced_pid/status")
[ "$rss" -lt 40000 ]; ok $? "memory after all of it: $rss kB"

# Concurrency
well; for d in a b e f; do echo slow >"$D/$d.mode"; done
t=$(now_ms); pids=()
for n in na nb ne nf; do "$ask_bin" --socket "$D/fenced.sock" off $n >/dev/null & pids+=($!); done
bad=0; for p in "${pids[@]}"; do wait "$p" || bad=1; done
[ $bad = 0 ] && [ $(($(now_ms) - t)) -lt 5000 ]; ok $? "four nodes at once: $(($(now_ms) - t)) ms for 4 times 2 s of agents"
well; echo slow >"$D/a.mode"; pids=()
for _ in 1 2 3 4; do "$ask_bin" --socket "$D/fenced.sock" --timeout 20000 status na >/dev/null & pids+=($!); done
for p in "${pids[@]}"; do wait "$p"; done
[ "$(grep -c status "$D/a.log")" = 4 ] && [ ! -e "$D/violations" ]; ok $? "never two actions on one device"
well; echo slow >"$D/a.mode"; u=$(uid); pids=()
for _ in $(seq 30); do "$ask_bin" --socket "$D/fenced.sock" --uid "$u" off na >/dev/null & pids+=($!); done
bad=0; for p in "${pids[@]}"; do wait "$p" || bad=1; done
[ $bad = 0 ] && [ "$(grep -c off "$D/a.log")" = 1 ]; ok $? "30 clients ask the same: one off, 30 answers"
well; echo hang >"$D/a.mode"; bg --timeout 20000 on na; sleep 0.4; echo ok >"$D/a.mode"
ask --timeout 9000 off na
[ $code = 0 ] && [ "$(cat "$D/a.power")" = 0 ] && [ $ms -lt 3000 ]; ok $? "off cancels an on under way: ${ms} ms"
well; echo hang >"$D/a.mode"; bg --timeout 4000 off na; sleep 0.3; ask on na
[ $code = 3 ] && grep -q 'under way' "$D/out"; ok $? "on is refused while an off is under way"
well; bad=0
for _ in $(seq 300); do "$ask_bin" --socket "$D/fenced.sock" status nh >/dev/null; [ $? = 1 ] || bad=$((bad + 1)); done
[ $bad = 0 ]; ok $? "300 requests, more than are kept"

# State directory
well; ask off ng; u=$(uid); ask --uid "$u" off ng; fenced_kill
for f in "$D"/state/*.fence; do truncate -s 30 "$f"; done
echo junk >"$D/state/junk"; fenced_start; ask --uid "$u" query
[ $code = 3 ] && grep -q damaged "$D/fenced.log" && compgen -G "$D/state/*.bad" >/dev/null
ok $? "damaged records are set aside, and said so"
well; ask off ng
[ $code = 0 ]; ok $? "configured from its own copy after a restart: ${ms} ms"
"$fenced" --socket "$D/other.sock" --secrets "$D/secrets" --state "$D/state" --agents "$D/agents" --foreground >"$D/out" 2>&1
[ $? = 1 ] && grep -q 'another gemel-fenced' "$D/out"; ok $? "a second one on the same state is refused"
well; mv "$D/state" "$D/state.away"; ask off ng; mv "$D/state.away" "$D/state"
[ $code = 3 ] && grep -q 'cannot record the intent' "$D/out" && [ "$(cat "$D/g.power")" = 1 ]
ok $? "nothing is done when the intent cannot be recorded"

# Levels at once
kill -TERM "$fenced_pid"; wait "$fenced_pid"; fenced_start --parallel-levels
well; echo hang >"$D/d1.mode"; ask --timeout 20000 off nd
[ $code = 0 ] && [ $ms -lt 2000 ]; ok $? "levels at once: level 1 hangs, level 2 confirms in ${ms} ms"
kill -TERM "$fenced_pid"; wait "$fenced_pid"; code=$?; fenced_pid=
[ $code = 0 ]; ok $? "ends cleanly"
echo "1..$count"
[ $failed = 0 ]
