# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034 # read by tests/kvm/run behind run_ft.sh, whose variables and functions these are
# Cases of a protected VM whose disk both sides share: a.img. What the primary writes is an output; the twin gets the disk with its claim.

case_ft_shared() { # one disk for both: every commit rule, checkpoints; the primary dies, its twin dies, a switchover
    local o
    ft_twin_image=a.img
    for o in "--commit verified" "--commit received" "--checkpoint" "--switchover" "--checkpoint --switchover"; do
        ft_start "nonet rate=100" || return
        # shellcheck disable=SC2086
        ft_protect $o || return
        shared_untouched
        case $o in
        *switchover) ;;
        *) ft_more 10 50; shared_untouched; ft_signal KILL "$p_pid" ;;
        esac
        ft_end live
        ft_check t
        echo "# $o: $ft_last records, $(jq -c 'select(.end)' ft.out)"
        ft_kill
        [ -z "$failed" ] || { fail "($o)"; break; }
    done
    ft_twin_image=
}
# R1: no file of the disk is open in the twin before it has the claim.
shared_untouched() {
    ! find "/proc/$t_pid/fd" -lname '*/a.img' 2>/dev/null | grep -q . || fail "the twin has the disk open while it follows"
}
