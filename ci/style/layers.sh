#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Includes against the layers of the design: arrows point down, inside one tower, or to base/.
. "${srcdir:-.}/ci/style/lib.sh"
cd "$srcdir" || exit 1

# Headers of the system that only some files may include: what, who, why.
cat >"$scratch/system" <<'T'
qb/qbloop.h     ^(base/loop_qb|ha/ha_ipc)\.c$      use base/loop.h; qb_ipcs alone needs the types
qb/qblog.h      ^base/log_qb\.c$                use base/log.h
linux/kvm.h     ^vmm/                           KVM is behind vmm/kvm_ops.h
gnutls/         ^migrate/mig_(key|tls)\.[ch]$   use migrate/mig_conn.h
liburing.h      ^(vmm|base)/                    disks belong to the VMM
protobuf-c/     ^base/                          use base/proto_ctl.h
corosync/       ^(ha|lab|programs)/             only the agent talks to Corosync
cyaml/          ^cluster-conf/                  use cluster-conf/conf_load.h
yaml.h          ^cluster-conf/                  use cluster-conf/conf_load.h
T

# FILE LINE INCLUDE for every #include "x", FILE LINE <INCLUDE> for the system's
list_includes() {
    # shellcheck disable=SC2016 # the dollars are awk's
    xargs -r awk '
        match($0, /^[ \t]*#[ \t]*include[ \t]*"[^"]*"/) {
            split($0, q, "\""); print FILENAME, FNR, q[2]
        }
        match($0, /^[ \t]*#[ \t]*include[ \t]*<[^>]*>/) {
            split($0, q, /[<>]/); print FILENAME, FNR, "<" q[2]
        }'
}

# check_includes FOLDER ALLOWED...: reads list_includes, prints what is not allowed
check_includes() {
    folder=$1
    shift
    while read -r file line inc; do
        case $inc in
        '<'*)
            case $file in tests/*) continue ;; esac
            while read -r what who why; do
                case ${inc#<} in
                "$what"*)
                    if ! printf '%s\n' "$file" | grep -Eq "$who"; then
                        echo "$file:$line includes <${inc#<}>: $why"
                    fi
                    ;;
                esac
            done <"$scratch/system"
            ;;
        config.h) ;; # made by configure
        */*)
            allowed=
            for may in "$@"; do
                case $inc in
                "$may"/*) allowed=yes ;;
                esac
            done
            if [ -z "$allowed" ]; then
                echo "$file:$line includes \"$inc\": $folder/ may use only: $*"
            fi
            ;;
        *)
            echo "$file:$line includes \"$inc\": write the path from the top of the tree"
            ;;
        esac
    done
}

for folder in $folders; do
    tracked "$folder/*.c" "$folder/*.h" | grep "^$folder/" >"$scratch/files" || continue
    # shellcheck disable=SC2046 # a list of words
    list_includes <"$scratch/files" | check_includes "$folder" $(folder_may_use "$folder") >"$scratch/bad"
    tap_result "includes of $folder/" "$scratch/bad"

    # A unit test may use what the folder may, and the tests' own helpers.
    if tracked "tests/unit/$folder/*.c" | grep "^tests/unit/$folder/" >"$scratch/files"; then
        # shellcheck disable=SC2046
        list_includes <"$scratch/files" |
            check_includes "tests/unit/$folder" $(folder_may_use "$folder") tests >"$scratch/bad"
        tap_result "includes of tests/unit/$folder/" "$scratch/bad"
    fi
done

# Every folder with C in it stands in the table, or is no part of the product.
tracked '*.c' '*.h' | sed 's|/.*||' | sort -u | while read -r top; do
    case " $(echo "$folders" | tr '\n' ' ') tests ci doc " in
    *" $top "*) ;;
    *) echo "$top/ has no line in the layer table of ci/style/lib.sh" ;;
    esac
done >"$scratch/bad"
tap_result "every folder stands in the layer table" "$scratch/bad"
tap_end
