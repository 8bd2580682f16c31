# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The cases of the nested bed; runs inside of it. usage: cases.sh [CASE...]. Each case is a function case_NAME, with a line in
# $all and its limit in seconds; it says `fail REASON` when something is wrong.

all="probe:20 pulse:30"

failed=
fail() {
    failed="${failed:+$failed; }$*"
}
note() { sed 's/^/# /' "$@"; }

# uptime in 1/100 s
now() { sed 's/ .*//; s/\.//' /proc/uptime; }

case_probe() { # gemel-vmm --probe sees a real KVM
    gemel-vmm --probe >probe.log 2>&1 || fail "gemel-vmm --probe ended with $?"
    note probe.log
}

case_pulse() { # the lockstep machine runs pulse to its first output
    truncate -s 1M disk.img
    gemel-vmm --memory 64M --firmware /guest/pulse.rom --append count=3 --disk path=disk.img --console-log console.log \
        --log vmm.log --run || fail "gemel-vmm ended with $?"
    grep -q '^seq=3 ' console.log || fail "no third record of pulse"
    note console.log
}

# ---- runner -----------------------------------------------------------------------------------------------------

run_case() { # NAME: prints what the case prints; its reason of failure goes to the file "failed"
    failed=
    "case_$1"
    echo "$failed" >failed
}

limit_of() { # NAME
    for entry in $all; do
        [ "${entry%:*}" != "$1" ] || echo "${entry#*:}"
    done
}

if [ "${1-}" = --one ]; then
    run_case "$2"
    exit
fi
[ $# -gt 0 ] || for entry in $all; do set -- "$@" "${entry%:*}"; done
echo "1..$#"
n=0 bad=0
for name in "$@"; do
    n=$((n + 1))
    mkdir -p "/tmp/$name" && cd "/tmp/$name" || exit 1
    began=$(now)
    limit=$(limit_of "$name")
    if [ -z "$limit" ]; then
        echo "there is no such case" >failed
    else
        echo "not over after $limit s" >failed
        timeout -s KILL "$limit" sh /cases.sh --one "$name"
    fi
    took=$(($(now) - began))
    took="$((took / 100)).$((took % 100 / 10)) s"
    if [ -s failed ] && [ "$(cat failed)" ]; then
        bad=$((bad + 1))
        echo "not ok $n - $name"
        sed 's/^/#   /' failed
        for f in *.log; do
            [ ! -s "$f" ] || { echo "#   the end of $f:"; tail -n 12 "$f" | sed 's/^/#   | /'; }
        done
    else
        echo "ok $n - $name # $took"
    fi
done
[ "$bad" = 0 ]
