#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# gemel-fenced with the real fence_ipmilan against real ipmi_sim BMCs on loopback that work, hang, lie, are slow, fail.
# Needs no root. TAP on stdout; each test prints result and time. Usage: t_fenced_ipmi.sh [BUILD DIRECTORY]
set -u
builddir=${1:-${builddir:-.}}
fenced=$builddir/gemel-fenced
ask_bin=$builddir/tests/lab/fence_ask
for need in ipmi_sim ipmitool fence_ipmilan; do
    command -v $need >/dev/null || { echo "1..0 # SKIP $need is not installed: run ci/deps"; exit 0; }
done

D=$(mktemp -d)
canary=c4n4ry$RANDOM   # the BMC's password: at most 16 characters
declare -A sim         # BMC -> pid
fenced_pid=
count=0
failed=0
helpers=()

cleanup() {
    trap - EXIT INT TERM
    for pid in $fenced_pid ${helpers[@]+"${helpers[@]}"}; do kill -TERM "$pid" 2>/dev/null; done
    [ -z "$fenced_pid" ] || wait "$fenced_pid" 2>/dev/null
    for pid in "${sim[@]}"; do kill -CONT "$pid" 2>/dev/null; kill -KILL "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
    rm -rf "$D"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

now_ms() { echo $(($(date +%s%N) / 1000000)); }
ok() { # ok CONDITION-RESULT NAME
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else
        echo "not ok $count - $2"; failed=$((failed + 1))
        sed 's/^/# /' "$D/out" 2>/dev/null | tail -5
    fi
}

# BMCs ---------------------------------------------------------------------------------------------------------------
# chassis NODE get|set ...: the "hardware". Its mode is in NODE.mode, its power in NODE.power, each call in NODE.calls.
cat >"$D/chassis" <<'EOF'
#!/bin/sh
D=$(dirname "$0"); node=$1; op=$2; shift 2
mode=$(cat "$D/$node.mode"); echo "$op $*" >>"$D/$node.calls"
case $mode in slow) sleep 1.5;; fail) exit 1;; esac
case $op in
get) for k in "$@"; do case $k in
        power) if [ "$mode" = lie ]; then echo power:1; else echo "power:$(cat "$D/$node.power")"; fi;;
        boot) echo boot:default;; *) echo "Invalid parameter: $k"; exit 1;; esac; done;;
set) while [ $# -gt 1 ]; do
        [ "$1" != power ] || [ "$mode" = lie ] || echo "$2" >"$D/$node.power"
        shift 2; done;;
*) exit 1;; esac
exit 0
EOF
chmod +x "$D/chassis"

free_port() { # a UDP port nobody listens on
    local p
    while :; do
        p=$((20000 + RANDOM % 20000))
        grep -q ":$(printf %04X $p) " /proc/net/udp || { echo $p; return; }
    done
}

bmc_files() { # NODE PORT
    mkdir -p "$D/$1.sim"
    echo 1 >"$D/$1.power"; echo ok >"$D/$1.mode"; : >"$D/$1.calls"
    cat >"$D/$1.lan" <<EOF
name "$1"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 $2
    priv_limit admin
    allowed_auths_callback none md5
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "$D/chassis $1"
  startnow false
  user 1 false "" "" user 10 md5
  user 2 true "admin" "$canary" admin 10 md5
EOF
    cat >"$D/$1.emu" <<EOF
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
EOF
}
bmc_start() { # NODE
    ipmi_sim -c "$D/$1.lan" -f "$D/$1.emu" -s "$D/$1.sim" -n </dev/null >"$D/$1.log" 2>&1 &
    sim[$1]=$!
}
mode() { echo "$2" >"$D/$1.mode"; }
power() { cat "$D/$1.power"; }
# Everything well again, power on.
reset_bmc() {
    kill -CONT "${sim[$1]}"; mode "$1" ok; echo 1 >"$D/$1.power"; : >"$D/$1.calls"
}

p1=$(free_port); p2=$(free_port); dead=$(free_port)
bmc_files n1 "$p1"; bmc_files n2 "$p2"
bmc_start n1; bmc_start n2

# fenced -------------------------------------------------------------------------------------------------------------
mkdir -m 700 "$D/secrets"
for d in bmc1 bmc2 bmc2b bmc4 bmc5; do (umask 077; printf '# BMC\npassword=%s\n' "$canary" >"$D/secrets/$d.secret"); done
(umask 077; echo password=wrong-one >"$D/secrets/bmc3.secret")
params="ip: 127.0.0.1, lanplus: 1, username: admin, cipher: 3"
cat >"$D/cluster.yaml" <<EOF
cluster:
  name: t1
  nodes:
    - {name: n1, id: 1, addr: 10.0.0.1}
    - {name: n2, id: 2, addr: 10.0.0.2}
    - {name: n3, id: 3, addr: 10.0.0.3}
    - {name: n4, id: 4, addr: 10.0.0.4}
storage: {type: nfs, settle: 5s}
fence:
  retry: 300ms
  devices:
    # n1: one BMC. n2: level 1 hangs in some tests, level 2 is n1's. n3: wrong password. n4: nobody there.
    - {name: bmc1, agent: fence_ipmilan, node: n1, timeout: 20s, params: {$params, ipport: $p1, power_timeout: 2}}
    - {name: bmc2, agent: fence_ipmilan, node: n2, timeout: 3s, params: {$params, ipport: $p2}}
    - {name: bmc2b, agent: fence_ipmilan, node: n2, level: 2, params: {$params, ipport: $p1}}
    - {name: bmc3, agent: fence_ipmilan, node: n3, params: {$params, ipport: $p1}}
    - {name: bmc4, agent: fence_ipmilan, node: n4, timeout: 3s, params: {$params, ipport: $dead}}
EOF
agents=$(dirname "$(command -v fence_ipmilan)")
fenced_start() {
    "$fenced" --socket "$D/fenced.sock" --secrets "$D/secrets" --state "$D/state" --agents "$agents" \
        --log "$D/fenced.log" --foreground &
    fenced_pid=$!
    for _ in $(seq 100); do [ -S "$D/fenced.sock" ] && return; sleep 0.02; done
}
fenced_kill() { kill -KILL "$fenced_pid"; wait "$fenced_pid" 2>/dev/null; rm -f "$D/fenced.sock"; }
# ask ARGS...: output in $D/out, exit code in $code, time in $ms
ask() {
    local t; t=$(now_ms)
    "$ask_bin" --socket "$D/fenced.sock" "$@" >"$D/out" 2>&1; code=$?
    ms=$(($(now_ms) - t)); cat "$D/out" >>"$D/replies"
    result=$(tail -1 "$D/out" | cut -d' ' -f1)
}
uid() { cat /proc/sys/kernel/random/uuid; }
fenced_start
for _ in $(seq 50); do # until both simulators answer
    ipmitool -I lanplus -H 127.0.0.1 -p "$p1" -U admin -P "$canary" -C 3 -N 1 -R 1 chassis power status >/dev/null 2>&1 &&
    ipmitool -I lanplus -H 127.0.0.1 -p "$p2" -U admin -P "$canary" -C 3 -N 1 -R 1 chassis power status >/dev/null 2>&1 && break
done

# Tests --------------------------------------------------------------------------------------------------------------
ask status n1
[ "$result" = unknown ] && grep -q 'not configured' "$D/out"; ok $? "without a configuration nothing is known"
ask --config "$D/cluster.yaml" config
[ $code = 0 ]; ok $? "cluster definition accepted"
sed 's/retry: 300ms/retry: soon/' "$D/cluster.yaml" >"$D/bad.yaml"; ask --config "$D/bad.yaml" config
[ $code = 1 ] && grep -q retry "$D/out"; ok $? "bad definition refused, named: $(sed 's/.*detail=//' "$D/out")"

ask status n1
[ $code = 1 ]; ok $? "status of a running node: says on, ${ms} ms"
times=()
for _ in 1 2 3 4 5; do
    reset_bmc n1; ask off n1
    [ $code = 0 ] && [ "$(power n1)" = 0 ] || break
    times+=("$ms")
done
median=$(printf '%s\n' "${times[@]}" | sort -n | sed -n 3p)
[ ${#times[@]} = 5 ] && [ "$median" -lt 3000 ] # a bound for busy machines; the number is what counts
ok $? "off confirmed by a second reading 5 times: ${times[*]} ms, median $median"
agent_ms() { sed -n "s/.*action=$1 node=n1 .*elapsed_ms=\([0-9]*\) .*/\1/p" "$D/fenced.log" | tail -5 | sort -n | sed -n 3p; }
echo "# of it: off agent $(agent_ms off) ms, reading $(agent_ms status) ms (medians); load $(cut -d' ' -f1 /proc/loadavg)"
: >"$D/n1.calls"; ask off n1
[ $code = 0 ] && ! grep -q 'set power' "$D/n1.calls"; ok $? "already off counts: ${ms} ms, no command to the BMC"
ask status n1
[ $code = 0 ]; ok $? "status of a node that is off is proof: ${ms} ms"
ask on n1
[ $code = 0 ] && [ "$(power n1)" = 1 ]; ok $? "on: ${ms} ms"
ask monitor n1
[ $code = 0 ]; ok $? "monitor: ${ms} ms"

reset_bmc n1; u=$(uid); ask --uid "$u" off n1; first=$code; echo 1 >"$D/n1.power"
ask --uid "$u" off n1
[ $first = 0 ] && [ $code = 0 ] && [ "$(grep -c 'set power' "$D/n1.calls")" = 1 ] && [ "$(power n1)" = 1 ]
ok $? "a duplicate reports again and acts no second time"
ask --uid "$u" off n2
[ $code = 3 ] && grep -q 'another request' "$D/out"; ok $? "the same uid for another node is refused"
ask --self n1 off n1
[ $code = 3 ] && grep -q 'itself' "$D/out"; ok $? "a node does not fence itself"
ask off n9
[ $code = 3 ] && grep -q 'no fence device' "$D/out"; ok $? "node without a device: unknown"

reset_bmc n1; kill -STOP "${sim[n1]}"; ask --timeout 5000 off n1
gap=$(grep -o 'elapsed_ms=[0-9]*' "$D/out" | cut -d= -f2 | awk 'NR > 1 && $1 - p > g { g = $1 - p } { p = $1 } END { print g + 0 }')
[ $code = 3 ] && [ $ms -lt 7000 ] && [ "$gap" -le 2000 ] && [ "$(power n1)" = 1 ]
ok $? "hung BMC: unknown after ${ms} ms, reports at most $gap ms apart"
reset_bmc n1; kill -STOP "${sim[n1]}"
(sleep 2; kill -CONT "${sim[n1]}") & helpers+=($!)
ask --timeout 20000 off n1
[ $code = 0 ] && [ "$(power n1)" = 0 ]; ok $? "BMC hung for 2 s: ok after ${ms} ms"
reset_bmc n1; mode n1 lie; ask --timeout 8000 off n1
# failed; unknown when its time ends in the middle of another try
[ $code = 1 ] || [ $code = 3 ]; ok $? "lying BMC: $result, not ok: ${ms} ms"
reset_bmc n1; mode n1 slow; ask --timeout 60000 off n1
[ $code = 0 ] && [ "$(power n1)" = 0 ]; ok $? "slow BMC (1.5 s for each access): ok after ${ms} ms"
for _ in $(seq 100); do # the simulator works off what was sent again and again
    a=$(wc -l <"$D/n1.calls"); sleep 1.7; [ "$a" = "$(wc -l <"$D/n1.calls")" ] && break
done
reset_bmc n1; mode n1 fail; ask --timeout 4000 off n1
[ $code = 3 ]; ok $? "BMC with an error: unknown after ${ms} ms"
reset_bmc n1; ask --timeout 4000 off n3
[ $code = 3 ] && [ "$(power n1)" = 1 ]; ok $? "wrong password: unknown after ${ms} ms"
ask --timeout 5000 off n4
[ $code = 3 ]; ok $? "no BMC: unknown after ${ms} ms"
ask monitor n4
[ $code != 0 ]; ok $? "monitor of no BMC: $result after ${ms} ms"
chmod 0644 "$D/secrets/bmc1.secret"; ask --timeout 2000 off n1; chmod 0600 "$D/secrets/bmc1.secret"
[ $code = 3 ] && grep -q 'chmod 0600' "$D/out" && [ "$(power n1)" = 1 ]; ok $? "readable secret refused with a remedy: ${ms} ms"

reset_bmc n1; kill -STOP "${sim[n2]}"; ask --timeout 20000 off n2
[ $code = 0 ] && grep -q 'device=bmc2b' "$D/out" && [ "$(power n1)" = 0 ]
ok $? "level 1 hangs, level 2 confirms: ${ms} ms"
kill -CONT "${sim[n2]}"

reset_bmc n1; kill -STOP "${sim[n1]}"; u=$(uid)
"$ask_bin" --socket "$D/fenced.sock" --uid "$u" --timeout 20000 off n1 >"$D/off.out" 2>&1 & helpers+=($!); off=$!
sleep 0.7; ask --uid "$u" cancel
wait $off; [ $? = 3 ] && [ $code = 3 ] && grep -q cancelled "$D/off.out"; ok $? "cancel: answered in ${ms} ms"
reset_bmc n1

# A monitor that hangs must not delay an off.
kill -STOP "${sim[n1]}"
"$ask_bin" --socket "$D/fenced.sock" --timeout 20000 monitor n1 >/dev/null 2>&1 & helpers+=($!)
sleep 0.5; (sleep 0.5; kill -CONT "${sim[n1]}") & helpers+=($!)
ask --timeout 20000 off n1
[ $code = 0 ] && [ $ms -lt 3500 ]; ok $? "off pushes a hanging monitor aside: ${ms} ms"

# Restart in flight.
for after in off on; do
    reset_bmc n1; kill -STOP "${sim[n1]}"; u=$(uid)
    "$ask_bin" --socket "$D/fenced.sock" --uid "$u" --no-wait --timeout 20000 off n1 >/dev/null
    sleep 0.5; fenced_kill; kill -KILL "${sim[n1]}"; wait "${sim[n1]}" 2>/dev/null
    sleep 0.5; bmc_start n1; sleep 0.3
    [ $after = on ] || echo 0 >"$D/n1.power"
    : >"$D/n1.calls"
    fenced_start; ask --uid "$u" query
    ! grep -q 'set power' "$D/n1.calls" && { { [ $after = off ] && [ $code = 0 ]; } || { [ $after = on ] && [ $code = 1 ]; }; }
    ok $? "fenced killed while an off is in flight, node really $after: $result after ${ms} ms, only read"
    echo 1 >"$D/n1.power"; fenced_kill; fenced_start; ask --uid "$u" query
    { [ $after = off ] && [ $code = 0 ]; } || { [ $after = on ] && [ $code = 1 ]; }
    ok $? "its result is remembered over another restart: $result"
done
ask --uid "$(uid)" query
[ $code = 3 ] && grep -q 'nothing is under way' "$D/out"; ok $? "a uid never seen: unknown"

# Junk on the socket.
for n in 1 2 3 4 5 6; do
    # a hello whose first tag is no tag, then noise: never by chance a message of a later version, which is only ignored
    { printf '\001\377\377'; head -c $((n * 700)) /dev/urandom; } | timeout 1 perl -MSocket -e '
        socket(S, AF_UNIX, SOCK_SEQPACKET, 0); connect(S, pack_sockaddr_un($ARGV[0]));
        local $/; send(S, <STDIN>, 0)' "$D/fenced.sock" 2>/dev/null
done
reset_bmc n1; ask off n1
[ $code = 0 ] && grep -q 'connection closed' "$D/fenced.log"; ok $? "off after junk on the socket: ${ms} ms"

# Secrets: while an agent runs, afterwards in everything we write.
reset_bmc n1; mode n1 slow
"$ask_bin" --socket "$D/fenced.sock" --timeout 15000 off n1 >>"$D/replies" 2>&1 & helpers+=($!); off=$!
leaks=0 seen=0 theirs=0
for _ in $(seq 20); do
    for pid in $fenced_pid $(pgrep -P "$fenced_pid"); do
        seen=$((seen + 1))
        grep -qa "$canary" "/proc/$pid/cmdline" "/proc/$pid/environ" 2>/dev/null && leaks=$((leaks + 1))
        for child in $(pgrep -s "$pid" ipmitool); do # an agent leads its own session
            grep -qa "$canary" "/proc/$child/cmdline" 2>/dev/null && theirs=$((theirs + 1))
        done
    done
    sleep 0.1
done
[ $seen -gt 20 ] && [ $leaks = 0 ]; ok $? "password in no command line or environment of ours ($seen looks)"
echo "# fence_ipmilan passes it on as ipmitool -P, which overwrites it at its start: seen there $theirs times (see fencing/README.md)"
wait $off
grep -rqa "$canary" "$D/fenced.log" "$D/replies" "$D/state"; [ $? = 1 ]
ok $? "password in no log, reply or state file"
grep -qa "$canary" "$D/n1.lan"; ok $? "(the search itself finds it where it is)"
[ "$(cat /proc/$fenced_pid/coredump_filter >/dev/null 2>&1; awk '/^Max core file/ {print $5}' /proc/$fenced_pid/limits)" = 0 ]
ok $? "no core dumps"

kill -TERM "$fenced_pid"; wait "$fenced_pid"; code=$?; fenced_pid=
[ $code = 0 ] && [ ! -e "$D/fenced.sock" ]; ok $? "ends cleanly"
echo "1..$count"
[ $failed = 0 ]
