# SPDX-License-Identifier: Apache-2.0
# Protected VMs whose disk both nodes reach, for t_ft_shared*.sh: web1 of the lab $L. Sourced behind vm.sh.
# shellcheck shell=bash disable=SC2154,SC2034,SC2086 # of lib.sh and its user

WITNESS_GAP_MS=100
FT_SUSPECT=${FT_SUSPECT:-300ms} # a test machine is busy
FILTER=$builddir/storage/nbdkit-gemel-epoch-filter.so
NBD=10.77.0.1

shared_define() { # DISK-YAML
    local shared
    shared=$(vm_shared $L)
    mkdir -p "$shared/web1"
    cp "$builddir/tests/guest/pulse.rom" "$shared/pulse.rom"
    [ -e "$shared/web1/disk0.img" ] || truncate -s 16M "$shared/web1/disk0.img"
    cat >"$shared/web1.yaml" <<YAML
name: web1
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=$VM_IP rate=20"}
disks: [$1]
nics: [{mac: "$VM_MAC"}]
ha: {start_timeout: 20s, stop_timeout: 10s}
ft: {suspect: $FT_SUSPECT}
YAML
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
held() { show "$1" .held; }
holds() { # ASKED PATTERN
    # shellcheck disable=SC2053 # a pattern
    [[ "$(held "$1")" = $2 ]]
}
let_go() { # ASKED. They were held before.
    holds "$1" null && [[ "$(show "$1" .reason)" = *'its writes are held no more'* ]]
}
protect() { # BY
    check "it is protected" gemel_at $L n3 vm protect web1 --on "$1" --timeout 60s || gemel_at $L n3 events | tail -n 5 | sed 's/^/# /'
}
outages() { # BEFORE
    tail -n +$(($1 + 1)) "$LAB_SCRATCH/$L-witness.err" | grep 'answers again' | sed 's/.*after //; s/,.*//' | tr '\n' ' '
}
seen() { wc -l <"$LAB_SCRATCH/$L-witness.err"; }
has_none() { equal "$(lab $L exec "$1" -- pgrep -c -x gemel-vmm)" 0; }
