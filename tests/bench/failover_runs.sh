# SPDX-License-Identifier: Apache-2.0
# One run of each side: a lab, a VM, its node dies, and what the logs say about when. Sourced by tests/bench/failover.
# shellcheck shell=bash
# From tests/bench/failover:
builddir=${builddir:?} bench_dir=${bench_dir:?} cases=${cases:?} profiles=${profiles:?} logs=${logs:-}

# knet gives a young link ten times its timeout and takes one off with each answer (250 ms apart at token 1000):
# what is measured is a cluster that has been together for a while.
WARM_SECONDS=4
TRIES_MAX=3 # the ring broke before the fault (a loaded machine): again

missing_thing() {
    [ "$(id -u)" = 0 ] || { echo "needs root: the lab makes namespaces" && return; }
    [ -c /dev/kvm ] || { echo "no /dev/kvm" && return; }
    [ -c /dev/fuse ] || { echo "no /dev/fuse" && return; }
    local thing
    for thing in "$builddir"/{gemel,gemeld,gemel-vmm,gemel-fenced,gemel-lab,tests/guest/pulse.rom,tests/guest/witness}; do
        [ -e "$thing" ] || { echo "$thing is not built" && return; }
    done
    for thing in corosync ipmi_sim nft ip fence_ipmilan jq python3; do
        command -v "$thing" >/dev/null || { echo "$thing is not installed (ci/deps)" && return; }
    done
}

peer_missing() {
    local program
    for program in pacemakerd crm_mon cibadmin crm_resource; do
        command -v $program >/dev/null || {
            echo "$program is not installed; the Debian packages are in ci/packages-bench.txt"
            return
        }
    done
    id hacluster >/dev/null 2>&1 || echo "user hacluster is missing; the package pacemaker-common makes it"
}

peer_name() {
    echo "pacemaker $(pacemakerd --version 2>/dev/null | awk '/^Pacemaker/ { print $2 }')"
}

bench_cleanup() {
    local pid_file
    for pid_file in "$LAB_SCRATCH"/*-witness.pid; do
        [ ! -e "$pid_file" ] || kill -TERM "$(cat "$pid_file")" 2>/dev/null
    done
    lab_cleanup
}

load() {
    cut -d' ' -f1 /proc/loadavg
}

# corosync writes its log in wall clock time, everybody else in monotonic time
wall_minus_mono_ns() {
    python3 -c 'import time; print(time.time_ns() - time.monotonic_ns())'
}

# log_lines LAB NODE PATTERN: "monotonic-ns text" of the lines of NODE's corosync.log
log_lines() {
    local offset stamp text
    offset=$(wall_minus_mono_ns)
    grep -aE "$3" "$LAB_SCRATCH/$1/nodes/$2/log/corosync.log" | while read -r text; do
        stamp=$(date -d "${text:0:19}" +%s%N) || continue
        echo "$((stamp - offset)) $text"
    done
}

fault_ns() { # LAB KIND
    local event=power-cut
    [ "$2" = power ] || event=pause
    jq -r "select(.event == \"$event\").t_ns" "$LAB_SCRATCH/$1/log/events.jsonl" | head -n 1
}

# ring_ns LAB NODE FAULT-NS: when NODE's corosync had a quorate membership of the two that are left
ring_ns() {
    log_lines "$1" "$2" '\[QUORUM\] Members\[2\]' | awk -v t="$3" '$1 > t { print $1; exit }'
}

# ring_broke LAB NODE FROM-NS TO-NS: a membership was formed when nobody had died yet
ring_broke() {
    log_lines "$1" "$2" 'A new membership' | awk -v a="$3" -v b="$4" '$1 > a && $1 < b { n++ } END { exit n == 0 }'
}

break_node() { # LAB KIND NODE
    if [ "$2" = power ]; then
        lab "$1" power "$3" off
    else
        lab "$1" pause "$3"
    fi
}

# The outage that ended with another boot of the guest; it may be off by one question (10 ms)
outage_of() { # LAB FAULT-NS
    jq --argjson t "$2" '.start_ns as $s | [.outages[] | select(.open | not) |
        {ms, boot_changed, back_ns: ($s + (.from_ms + .ms) * 1e6)} | select(.boot_changed and .back_ns > $t)] | .[0] // empty' \
        "$LAB_SCRATCH/$1-witness.json"
}

# ---- our side ----

gemel_begin() { # LAB PROFILE
    lab "$1" up --profile "$2" && vm_define "$1" && gemel_at "$1" n1 vm start web1 --timeout 30s
}

gemel_where() { # LAB ASKED-NODE
    vm_node "$1" "$2"
}

# gemel_events LAB NODE...: {"ns", "text"} of all of them, in order
gemel_events() {
    local name=$1 node
    shift
    for node in "$@"; do
        gemel_at "$name" "$node" events --json | jq -c --arg node "$node" '.events[] | {ns: .mono_ns, node: $node, text}'
    done | jq -s 'sort_by(.ns)'
}

# gemel_phases LAB VICTIM TAKER BEGAN-NS FAULT-NS ANSWER-NS: the phases, as a JSON object; fails if one is missing
gemel_phases() {
    local survivors
    survivors=$(for node in n1 n2 n3; do [ "$node" = "$2" ] || echo "$node"; done)
    # shellcheck disable=SC2086 # two words
    gemel_events "$1" $survivors | jq -e -c --arg victim "$2" --arg taker "$3" --argjson began "$4" \
        --argjson t "$5" --argjson back "$6" '
        def first_ns(f): map(select(f).ns)[0] // error("an event is missing");
        ([.[] | select(.ns > $began and .ns <= $t and (.text | endswith(": its link is silent")))] | length) as $false
        | ([.[] | select(.ns > $t)]) as $e
        | ($e | first_ns(.node == $taker and .text == "\($victim): left the view")) as $left
        | ($e | map(select(.node == $taker and .ns <= $left and (.text | test("^view .* quorate$"))).ns)[-1]
            // error("no event of a view")) as $view
        | ($e | first_ns(.text | startswith("\($victim): its fence device says off"))) as $off
        | ($e | first_ns(.node == $taker and .text == "web1: claim taken")) as $claim
        | ($e | first_ns(.node == $taker and .text == "web1: guest entered")) as $entered
        | ([$off, $view] | max) as $proof
        | {detect_ms: ($view - $t), fence_ms: ($proof - $view), claim_ms: ($claim - $proof),
           start_ms: ($entered - $claim), answer_ms: ($back - $entered)}
        | map_values(. / 1e4 | round / 100)
        + {early_off: ($off <= $view), false_suspicions: $false, watched_ms: (($t - $began) / 1e6),
           suspect_ms: ([$e[] | select(.text == "\($victim): its link is silent") | (.ns - $t) / 1e6] | .[0])}'
}

# ---- the peer ----

# As careful administrators write it (and pcs helps them to): devices away from their targets, nothing moves without need
pacemaker_constraints() {
    local i
    echo "<constraints>"
    for i in 1 2 3; do
        echo "<rsc_location id=\"away-$i\" rsc=\"fence-n$i\" node=\"n$i\" score=\"-INFINITY\"/>"
    done
    echo "</constraints>"
}

pacemaker_resources() {
    local i pair
    echo "<resources>"
    for i in 1 2 3; do
        echo "<primitive id=\"fence-n$i\" class=\"stonith\" type=\"fence_ipmilan\"><instance_attributes id=\"fence-n$i-ia\">"
        for pair in pcmk_host_list=n$i ip=10.79.0.$((100 + i)) ipport=623 lanplus=1 username=admin password=lab-secret \
            cipher=3 power_wait=0; do
            echo "<nvpair id=\"fence-n$i-${pair%%=*}\" name=\"${pair%%=*}\" value=\"${pair#*=}\"/>"
        done
        echo "</instance_attributes><operations><op id=\"fence-n$i-mon\" name=\"monitor\" interval=\"60s\"/></operations>"
        echo "</primitive>"
    done
    cat <<'XML'
<primitive id="web1" class="ocf" provider="gemel" type="vm">
<instance_attributes id="web1-ia"><nvpair id="web1-conf" name="conf" value="/srv/gemel/web1/ocf.conf"/></instance_attributes>
<operations><op id="web1-mon" name="monitor" interval="10s" timeout="20s"/>
<op id="web1-start" name="start" interval="0s" timeout="20s"/><op id="web1-stop" name="stop" interval="0s" timeout="20s"/>
</operations></primitive></resources>
XML
}

# The node's own tree: nothing of it is the machine's
pacemaker_node() { # LAB NODE
    local own=$LAB_SCRATCH/$1/nodes/$2
    mkdir -p "$own"/pacemaker/{cib,pengine,blackbox,cores} "$own/log/pacemaker"
    chown -R hacluster:haclient "$own/pacemaker" "$own/log/pacemaker"
    chmod 0750 "$own/pacemaker"
    lab "$1" exec "$2" -- sh -c '
        mount -t tmpfs tmpfs /usr/lib/ocf/resource.d && mkdir /usr/lib/ocf/resource.d/gemel &&
            cp /srv/gemel/ocf_vm /usr/lib/ocf/resource.d/gemel/vm || exit 1
        PCMK_logfile=/var/log/pacemaker/pacemaker.log setsid pacemakerd </dev/null >/var/log/pacemakerd.out 2>&1 &'
}

pacemaker_online() {
    lab "$1" exec n1 -- crm_mon -1 2>/dev/null | grep -q 'Online: \[ n1 n2 n3 \]'
}

pacemaker_where() { # LAB ASKED-NODE
    lab "$1" exec "$2" -- crm_resource -r web1 -W 2>/dev/null | sed -n 's/.*running on: \(n[0-9]\).*/\1/p'
}

pacemaker_runs() {
    [ -n "$(pacemaker_where "$1" n1)" ] &&
        [ "$(lab "$1" exec n1 -- crm_mon -1 | grep -c 'stonith:fence_ipmilan.*Started')" = 3 ]
}

pacemaker_begin() { # LAB PROFILE
    local shared=$LAB_SCRATCH/$1/shared node
    lab "$1" up --no-agents --profile "$2" || return 1
    mkdir -p "$shared/web1"
    cp "$builddir/tests/guest/pulse.rom" "$bench_dir/ocf_vm" "$shared/"
    truncate -s 64M "$shared/web1/disk0.img"
    cat >"$shared/web1/ocf.conf" <<CONF
vmm=$builddir/gemel-vmm
firmware=/srv/gemel/pulse.rom
append="ip=$VM_IP rate=${VM_RATE:-20}"
disk=/srv/gemel/web1/disk0.img
mac=$VM_MAC
bridge=br0
memory=32M
CONF
    for node in n1 n2 n3; do
        pacemaker_node "$1" $node || return 1
    done
    wait_for 90 pacemaker_online "$1" || return 1
    pacemaker_resources >"$shared/resources.xml"
    pacemaker_constraints >"$shared/constraints.xml"
    # Ours says off, not reboot: the same is asked of both. Everything else is Pacemaker's default.
    lab "$1" exec n1 -- crm_attribute -n stonith-action -v off &&
        lab "$1" exec n1 -- crm_attribute -t rsc_defaults -n resource-stickiness -v 1 &&
        lab "$1" exec n1 -- cibadmin --replace -o resources -x /srv/gemel/resources.xml &&
        lab "$1" exec n1 -- cibadmin --replace -o constraints -x /srv/gemel/constraints.xml &&
        wait_for 60 pacemaker_runs "$1"
}

# What the cluster was set to, said once
pacemaker_properties() { # LAB NODE
    local name
    echo "# pacemaker: $(for name in stonith-enabled stonith-action stonith-timeout no-quorum-policy dc-deadtime \
        transition-delay cluster-delay batch-limit concurrent-fencing; do
        printf '%s=%s ' "$name" "$(lab "$1" exec "$2" -- crm_attribute -t crm_config -n $name -G -q 2>/dev/null ||
            echo default)"
    done)"
}

# pacemaker_phases LAB VICTIM...
pacemaker_phases() {
    local dc=false
    [ "$pacemaker_dc" != "$2" ] || dc=true
    echo "{\"victim_was_dc\":$dc}"
}

pacemaker_dc=

# ---- one run ----

# try SIDE KIND PROFILE ROUND LAB: 0 measured, 2 the ring broke before the fault, 1 failed
try() {
    local side=$1 kind=$2 profile=$3 name=$5 victim asked taker began fault ring outage back phases load_before hiccups
    "${side}_begin" "$name" "$profile" >"$LAB_SCRATCH/$name.out" 2>&1 || return 1
    witness_begin "$name" >>"$LAB_SCRATCH/$name.out" || return 1
    began=$(python3 -c 'import time; print(time.monotonic_ns())')
    sleep $WARM_SECONDS.$((RANDOM % 10))
    victim=$("${side}_where" "$name" n1)
    [ -n "$victim" ] || return 1
    asked=$(another "$victim")
    if [ "$side" = pacemaker ]; then
        pacemaker_dc=$(lab "$name" exec "$asked" -- crmadmin -q -D 2>/dev/null)
        [ "$4" != 1 ] || [ "$kind$profile" != "${cases%%,*}${profiles%%,*}" ] || pacemaker_properties "$name" "$asked"
    fi
    load_before=$(load)
    # A guest that got no CPU for a while has "answered again" before
    hiccups=$(grep -c 'answers again' "$LAB_SCRATCH/$name-witness.err")
    break_node "$name" "$kind" "$victim" || return 1
    wait_for 60 answers_again "$name" $((hiccups + 1)) >>"$LAB_SCRATCH/$name.out" || return 1
    sleep 1
    taker=$("${side}_where" "$name" "$asked")
    witness_end "$name" >>"$LAB_SCRATCH/$name.out" || return 1
    fault=$(fault_ns "$name" "$kind")
    # Both survivors: the one that took over is the one that counts, but a ring that broke anywhere disturbs
    for node in $taker $(another "$victim" "$taker"); do
        ! ring_broke "$name" "$node" "$began" "$fault" || return 2
    done
    ring=$(ring_ns "$name" "$taker" "$fault")
    outage=$(outage_of "$name" "$fault")
    [ -n "$ring" ] && [ -n "$outage" ] && [ "$taker" != "$victim" ] || return 1
    back=$(jq '.back_ns | floor' <<<"$outage")
    phases=$("${side}_phases" "$name" "$victim" "$taker" "$began" "$fault" "$back" 2>>"$LAB_SCRATCH/$name.out") || return 1
    jq -c -n --arg side "$side" --arg kind "$kind" --arg profile "$profile" --argjson round "$4" --argjson phases "$phases" \
        --argjson outage "$outage" --argjson ring "$((ring - fault))" --argjson load "$load_before" '
        {side: $side, case: $kind, profile: $profile, round: $round, outage_ms: $outage.ms, ring_ms: ($ring / 1e6),
         after_ring_ms: ($outage.ms - $ring / 1e6), load: $load} + $phases' >>"${results:?}"
}

# measure SIDE KIND PROFILE ROUND: a run that the machine disturbed is done again, and counted
measure() {
    local name rc attempt
    for attempt in $(seq $TRIES_MAX); do
        run_count=$((${run_count:-0} + 1))
        name=b$run_count
        try "$@" "$name"
        rc=$?
        if [ $rc != 0 ]; then
            echo "# $*: $([ $rc = 2 ] && echo 'the ring broke before the fault' || echo 'no measurement') (try $attempt)"
            [ $rc != 2 ] || echo "{\"side\":\"$1\",\"case\":\"$2\",\"profile\":\"$3\",\"disturbed\":true}" >>"$results"
            [ $rc != 1 ] || sed 's/^/#   /' "$LAB_SCRATCH/$name.out" | tail -n 20
            if [ $rc = 1 ] && [ -n "$logs" ]; then
                keep_logs "$name"
            fi
        fi
        bench_kill_witness "$name"
        lab "$name" down >/dev/null
        [ $rc != 0 ] || break
    done
    [ $rc != 0 ] || echo "# $(tail -n 1 "$results")"
    return $rc
}

keep_logs() {
    local node
    for node in n1 n2 n3; do
        mkdir -p "$logs/$1/$node"
        cp -r "$LAB_SCRATCH/$1/nodes/$node/log/." "$logs/$1/$node"
    done
    cp "$LAB_SCRATCH/$1/log/events.jsonl" "$LAB_SCRATCH/$1"-witness.* "$LAB_SCRATCH/$1.out" "$logs/$1" 2>/dev/null
}

bench_kill_witness() {
    local pid_file=$LAB_SCRATCH/$1-witness.pid
    [ ! -e "$pid_file" ] || kill -TERM "$(cat "$pid_file")" 2>/dev/null
    rm -f "$pid_file"
}
