/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "programs/cli.h"

const char *const cli_exit_meaning[CLI_EXIT_COUNT] = {
    [CLI_DONE] = "done; status: healthy",
    [CLI_FAILED] = "failed; status: degraded; config check: something is wrong",
    [CLI_USAGE] = "wrong usage",
    [CLI_NOT_FOUND] = "no such VM or node",
    [CLI_REFUSED] = "refused by policy, or not confirmed; the reason is printed",
    [CLI_TIMED_OUT] = "waiting timed out or was stopped; the operation goes on",
    [CLI_NO_QUORUM] = "no quorum",
    [CLI_UNREACHABLE] = "the agent of this node cannot be reached",
    [CLI_NOT_PERMITTED] = "not permitted",
};

const struct cli_option cli_options[CLI_OPT_COUNT] = {
    [CLI_OPT_JSON] = {.name = "--json", .help = "print the data as JSON"},
    [CLI_OPT_YES] = {.name = "--yes",
                     .letter = 'y',
                     .help = "do not ask for the name to be typed"},
    [CLI_OPT_REASON] = {.name = "--reason",
                        .arg = "TEXT",
                        .help = "why; kept in the event log"},
    [CLI_OPT_NO_WAIT] = {.name = "--no-wait",
                         .help =
                             "return when the order is accepted, not when it is done"},
    [CLI_OPT_TIMEOUT] = {.name = "--timeout",
                         .arg = "DURATION",
                         .help = "how long to wait",
                         .kind = CLI_VALUE_DURATION,
                         .min = 1,
                         .max = 49ull * 24 * 60 * 60 * 1000,
                         .values = "1ms to 1176h, for example 30s or 5m"},
    [CLI_OPT_DRY_RUN] = {.name = "--dry-run",
                         .letter = 'n',
                         .help = "say what would be done, and change nothing"},
    [CLI_OPT_NO_COLOR] = {.name = "--no-color",
                          .help = "no colours on a terminal (also: NO_COLOR)"},
    [CLI_OPT_HELP] = {.name = "--help", .letter = 'h', .help = "this help"},
    [CLI_OPT_FILE] = {.name = "--file",
                      .letter = 'f',
                      .arg = "FILE",
                      .help = "the definition; - for standard input"},
    [CLI_OPT_YAML] = {.name = "--yaml", .help = "print the definition, ready for apply"},
    [CLI_OPT_FOLLOW] = {.name = "--follow",
                        .help = "go on printing new events until Ctrl-C"},
    [CLI_OPT_SINCE] = {.name = "--since",
                       .arg = "SEQ",
                       .help = "only events after this sequence number"},
    [CLI_OPT_NODE] = {.name = "--node", .arg = "NODE", .help = "a node by its name"},
    [CLI_OPT_DIR] = {.name = "--dir",
                     .arg = "DIR",
                     .help = "directory to write below (default /etc)"},
    [CLI_OPT_FORCE] =
        {.name = "--force",
         .help = "all the same: overwrite files that differ; start or move a VM "
                 "against anti_affinity"},
    [CLI_OPT_NEW_KEY] = {.name = "--new-key",
                         .help = "make a new ring key even if there is one"},
    [CLI_OPT_VMROOT] = {.name = "--vmroot",
                        .arg = "DIR",
                        .help =
                            "also look whether disks, firmware and kernels are there"},
    [CLI_OPT_NAME] = {.name = "--name",
                      .arg = "ID",
                      .help = "what it is to be called (default: the time)"},
    [CLI_OPT_SNAPSHOT] = {.name = "--snapshot",
                          .arg = "ID",
                          .help = "from this snapshot"},
    [CLI_OPT_DISCARD] = {.name = "--discard-state",
                         .help = "boot, and give a suspended state up"},
    [CLI_OPT_DOWNTIME] = {.name = "--downtime",
                          .arg = "DURATION",
                          .help = "how long it may stand still",
                          .kind = CLI_VALUE_DURATION,
                          .min = MIGRATE_DOWNTIME_MIN_MS,
                          .max = MIGRATE_DOWNTIME_MAX_MS,
                          .values = "21ms to 1m (default 300ms)"},
    [CLI_OPT_MAX_SLOWDOWN] = {.name = "--max-slowdown",
                              .arg = "PERCENT",
                              .help =
                                  "how far its vCPUs may be held back, if it takes that",
                              .kind = CLI_VALUE_COUNT,
                              .min = 0,
                              .max = MIGRATE_SLOWDOWN_MAX,
                              .values = "0 to 90, without a sign (default 0)"},
    [CLI_OPT_RATE] = {.name = "--rate",
                      .arg = "SIZE",
                      .help = "send at most so much per second",
                      .kind = CLI_VALUE_SIZE,
                      .min = MIGRATE_RATE_MIN,
                      .max = UINT64_MAX,
                      .values = "64KiB or more, for example 100MiB (default: no limit)"},
    [CLI_OPT_VERIFY] = {.name = "--verify",
                        .help = "compare all of its memory before it goes on there"},
    [CLI_OPT_NO_COMPRESS] = {.name = "--no-compress",
                             .help = "send its memory as it is, also over a slow link"},
    [CLI_OPT_ALLOW_POSTCOPY] =
        {.name = "--allow-postcopy",
         .help = "rather than give up, let it run there with a part of "
                 "its memory still here"},
    [CLI_OPT_ON] = {.name = "--on",
                    .arg = "NODE",
                    .help = "the node of the twin (default: placement finds one)"},
    [CLI_OPT_ACCEPT_COPY] = {.name = "--accept-copy",
                             .help = "of mirrored disks take that node's copy as it is, "
                                     "though it does not count"},
    [CLI_OPT_COMMIT] = {.name = "--commit",
                        .arg = "RULE",
                        .help = "when an output may leave: received, verified or hybrid "
                                "(default: ft.commit of its definition)"},
    [CLI_OPT_MODE] = {.name = "--mode",
                      .arg = "MODE",
                      .help =
                          "lockstep or checkpoint (default: ft.mode of its definition, "
                          "and what its machine can)"},
    [CLI_OPT_CANCEL] = {.name = "--cancel", .help = "give up the migration under way"},
    [CLI_OPT_RENDER] = {.name = "--render", .arg = "FILE", .help = NULL},
    [CLI_OPT_MAN] = {.name = "--man-verbs", .help = NULL},
};

#define MINUTE 60000

const struct cli_verb cli_verbs[] = {
    {
        .name = "status",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "the cluster, its nodes and VMs at one glance",
        .details = "The first thing to type. Shows what is degraded, and for each node "
                   "whose death is not proven yet: what "
                   "is waited for, until when, who tries, the last error, and what would "
                   "shorten it. Exit 0 healthy, 1 "
                   "degraded, 6 no quorum: fit for monitoring.",
        .example = "gemel status",
        .render = cli_render_status,
    },
    {
        .name = "cluster init",
        .options = CLI_BIT(CLI_OPT_FILE) | CLI_BIT(CLI_OPT_NODE) | CLI_BIT(CLI_OPT_DIR) |
                   CLI_BIT(CLI_OPT_FORCE) | CLI_BIT(CLI_OPT_NEW_KEY),
        .required = CLI_BIT(CLI_OPT_FILE) | CLI_BIT(CLI_OPT_NODE),
        .summary = "write corosync.conf, the ring key and node.yaml of this node",
        .details = "Works without an agent. Files that are there and differ are refused "
                   "without --force. An existing "
                   "ring key is always kept, unless --new-key: copy the key of the first "
                   "node to the others before "
                   "they are initialised.",
        .example = "gemel cluster init -f cluster.yaml --node n1",
        .run = cli_run_cluster_init,
    },
    {
        .name = "cluster apply",
        .options = CLI_BIT(CLI_OPT_FILE),
        .required = CLI_BIT(CLI_OPT_FILE),
        .timeout_ms = 30000,
        .summary = "change the cluster definition",
        .details = "Checked here first, then by the agent. Lists the changes; with "
                   "--dry-run it does no more.",
        .example = "gemel cluster apply -f cluster.yaml --dry-run",
        .run = cli_run_apply,
    },
    {
        .name = "cluster show",
        .reads = true,
        .options = CLI_BIT(CLI_OPT_YAML),
        .timeout_ms = 10000,
        .summary = "the cluster definition in force",
        .example = "gemel cluster show --yaml > cluster.yaml",
        .render = cli_render_definition,
    },
    {
        .name = "cluster cpu-baseline",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "the CPU model that every node which is up can run",
        .details = "Prints lines for the cluster definition and what each node has "
                   "beyond them. A VM whose cpu names this model starts, resumes and "
                   "moves on each of these nodes. Give it a name, add it with gemel "
                   "cluster apply, and name it under cpu: of VMs.",
        .example = "gemel cluster cpu-baseline",
        .render = cli_render_cpu,
    },
    {
        .name = "cluster stop",
        .danger = "This stops every VM of the cluster.",
        .timeout_ms = 10 * MINUTE,
        .summary = "stop all VMs, cleanly, before a power maintenance",
        .details = "When every VM is stopped, no node owns one: the nodes can be shut "
                   "down in any "
                   "order, and the next start needs no fencing. The agents go on until "
                   "then. The "
                   "VMs stay stopped until gemel vm start.",
        .example = "gemel cluster stop --reason 'power maintenance'",
    },
    {
        .name = "cluster recover",
        .timeout_ms = 2 * MINUTE,
        .summary =
            "let the nodes that are here go on after a lost majority or lost state",
        .details = "For a cluster that cannot go on by itself: records lost on a "
                   "majority, or nodes that will not come "
                   "back. Nodes that are missing still need a proof of death before "
                   "their VMs start elsewhere. Not in this version: it is refused; bring "
                   "nodes back until a majority is there.",
        .example = "gemel cluster recover --reason 'n3 is scrap'",
    },
    {
        .name = "node list",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "the nodes",
        .example = "gemel node list",
        .render = cli_render_nodes,
    },
    {
        .name = "node maintenance",
        .object = CLI_OBJECT_TWO,
        .object_name = "NODE on|off",
        .second = "maintenance",
        .timeout_ms = 60 * MINUTE,
        .summary = "empty a node for maintenance, and let its VMs come back",
        .details =
            "on: running VMs leave by live migration, important ones first, two at "
            "a time, and none comes; done when nothing runs there. One that cannot "
            "leave stays, and says why. off: done when the VMs that left are home again.",
        .example = "gemel node maintenance n1 on",
    },
    {
        .name = "node fence",
        .object = CLI_OBJECT_ONE,
        .object_name = "NODE",
        .danger = "This switches the node off at its power supply. Its VMs restart on "
                  "other nodes.",
        .timeout_ms = 2 * MINUTE,
        .summary = "switch a lost node off, and prove it",
        .details = "For a node that does not answer; it is done by itself when VMs wait "
                   "for it, but for the limit of fence.budget. Refused while the node "
                   "answers.",
        .example = "gemel node fence n2 --reason 'disk controller hangs'",
    },
    {
        .name = "node confirm-off",
        .object = CLI_OBJECT_ONE,
        .object_name = "NODE",
        .required = CLI_BIT(CLI_OPT_REASON),
        .danger = "You assert that the node is without power, now, and stays so. If that "
                  "is wrong, its VMs run twice "
                  "and their disks are destroyed.",
        .timeout_ms = 30000,
        .summary = "assert as an operator that a node is off",
        .details = "For a node whose fencing fails. Go and look, or pull the plug, "
                   "before. Refused while the node "
                   "answers. Needs --reason.",
        .example = "gemel node confirm-off n2 --reason 'pulled both power cords'",
    },
    {
        .name = "vm apply",
        .options = CLI_BIT(CLI_OPT_FILE),
        .required = CLI_BIT(CLI_OPT_FILE),
        .timeout_ms = 30000,
        .summary = "create or change a VM",
        .details = "Checked here first, then by the agent against the other VMs and "
                   "nodes. Lists the changes; with --dry-run it does no more.",
        .example = "gemel vm apply -f web1.yaml",
        .run = cli_run_apply,
    },
    {
        .name = "vm list",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "the VMs",
        .example = "gemel vm list",
        .render = cli_render_vms,
    },
    {
        .name = "vm show",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .reads = true,
        .options = CLI_BIT(CLI_OPT_YAML),
        .timeout_ms = 10000,
        .summary = "one VM: state, owner, claim and definition",
        .example = "gemel vm show web1 --yaml > web1.yaml",
        .render = cli_render_vm,
    },
    {
        .name = "vm start",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .options = CLI_BIT(CLI_OPT_NODE) | CLI_BIT(CLI_OPT_DISCARD) |
                   CLI_BIT(CLI_OPT_FORCE) | CLI_BIT(CLI_OPT_ACCEPT_COPY),
        .timeout_ms = 2 * MINUTE,
        .summary = "start a VM, and keep it running",
        .details =
            "With --node there, or not at all: it overrides preferred_nodes, and "
            "with --force anti_affinity. A suspended VM goes on from its state, unless "
            "--discard-state. A VM with mirrored disks starts only where its copy counts "
            "(gemel vm show lists them); --accept-copy with --node takes another one, "
            "which loses what was written and flushed since that was in sync, and asks "
            "for the name to be typed, unless --yes. It is refused while the last owner "
            "may still run it.",
        .example = "gemel vm start web1",
    },
    {
        .name = "vm stop",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .timeout_ms = 3 * MINUTE,
        .summary = "ask the guest to shut down; killed after its stop_timeout",
        .example = "gemel vm stop web1",
    },
    {
        .name = "vm kill",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .timeout_ms = MINUTE,
        .summary = "stop a VM at once, as a power cut would",
        .example = "gemel vm kill web1",
    },
    {
        .name = "vm suspend",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .timeout_ms = 5 * MINUTE,
        .summary = "save the state of a running VM and end it; see vm resume",
        .details = "The guest notices nothing but the time that passed. The state lies "
                   "beside the disks, so any node resumes it. If it cannot be saved, the "
                   "VM runs on.",
        .example = "gemel vm suspend web1",
    },
    {
        .name = "vm resume",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .options = CLI_BIT(CLI_OPT_NODE) | CLI_BIT(CLI_OPT_FORCE),
        .timeout_ms = 2 * MINUTE,
        .summary = "let a suspended VM go on, and keep it running",
        .details = "A state that is damaged, or was not made by the last suspend, is "
                   "refused and left as it is. When the VM runs again, the state is "
                   "gone: a restart after a failure is a boot.",
        .example = "gemel vm resume web1 --node n2",
    },
    {
        .name = "vm migrate",
        .object = CLI_OBJECT_ONE_OR_TWO,
        .object_name = "VM [NODE]",
        .second = "node",
        .options = CLI_BIT(CLI_OPT_DOWNTIME) | CLI_BIT(CLI_OPT_MAX_SLOWDOWN) |
                   CLI_BIT(CLI_OPT_RATE) | CLI_BIT(CLI_OPT_VERIFY) |
                   CLI_BIT(CLI_OPT_NO_COMPRESS) | CLI_BIT(CLI_OPT_ALLOW_POSTCOPY) |
                   CLI_BIT(CLI_OPT_CANCEL) | CLI_BIT(CLI_OPT_FORCE),
        .timeout_ms = 30 * MINUTE,
        .summary = "move a running VM to another node",
        .details = "Without NODE, to the one that placement prefers. The guest runs on "
                   "while its memory is copied, and stands still only for the last of "
                   "it. Whatever fails, the VM runs on at one of the two nodes. With "
                   "--timeout the migration itself is given up after that time. "
                   "--dry-run says where it would go, or what stands in the way. With "
                   "--allow-postcopy a guest that writes faster than its memory can be "
                   "copied goes on there all the same, and waits for each page that it "
                   "touches and that has not come: until all are there, the loss of "
                   "either node or of the link costs a restart from its disks. A VM "
                   "that HA protects needs a --reason for that.",
        .example = "gemel vm migrate web1 n2",
    },
    {
        .name = "vm upgrade",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .options = CLI_BIT(CLI_OPT_VERIFY),
        .timeout_ms = MINUTE,
        .summary = "let a running VM go on in the gemel-vmm that is installed now",
        .details =
            "After an upgrade of Gemel, without a restart of the guest and without "
            "another node: its memory stays where it is, and it stands still for "
            "a moment. Whatever fails, it goes on as it was, or is restarted. vm "
            "show tells whether another gemel-vmm than its own is installed. With "
            "--timeout the upgrade itself is given up after that time.",
        .example = "gemel vm upgrade web1",
    },
    {
        .name = "vm protect",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .options = CLI_BIT(CLI_OPT_ON) | CLI_BIT(CLI_OPT_MODE) | CLI_BIT(CLI_OPT_COMMIT),
        .timeout_ms = 10 * MINUTE,
        .summary = "give a running VM a twin that goes on when its node is lost",
        .details =
            "The twin, on another node, executes what the guest does (lockstep), or "
            "is given what changed, many times a second (checkpoint: any "
            "machine); nothing that anyone outside has seen is lost. Its disks "
            "are mirrored, or shared (not qcow2). The guest stands still for a moment "
            "while "
            "the last of its memory and its disks are copied. --dry-run says "
            "where the twin would be, or all that stands in the way, as that node and "
            "the VM's own see it. A guest that "
            "cannot be followed in lockstep goes on with checkpoints by itself, unless "
            "ft.mode is lockstep; --mode lockstep then goes back.",
        .example = "gemel vm protect web1 --on n2",
    },
    {
        .name = "vm unprotect",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .timeout_ms = MINUTE,
        .summary = "let a protected VM go on without its twin",
        .details = "And it gets no other one, whatever ft: of its definition says, "
                   "until gemel vm protect.",
        .example = "gemel vm unprotect web1",
    },
    {
        .name = "vm switchover",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .timeout_ms = MINUTE,
        .summary = "let the twin of a protected VM take over",
        .details = "It runs on the twin's node then, without a twin until it gets "
                   "another one (ft:, or gemel vm protect).",
        .example = "gemel vm switchover web1",
    },
    {
        .name = "vm snapshot",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .options = CLI_BIT(CLI_OPT_NAME),
        .timeout_ms = 10 * MINUTE,
        .summary = "keep a copy of a VM's disks, and of its state if it runs",
        .details = "A running VM stands still while it is copied; where the file system "
                   "shares blocks between files, that is short. Disks outside of the "
                   "VM's directory are refused, unless they are read-only.",
        .example = "gemel vm snapshot web1 --name before-upgrade",
    },
    {
        .name = "vm snapshots",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "the snapshots of a VM",
        .example = "gemel vm snapshots web1",
        .render = cli_render_snapshots,
    },
    {
        .name = "vm snapshot-delete",
        .object = CLI_OBJECT_TWO,
        .object_name = "VM ID",
        .second = "snapshot",
        .timeout_ms = MINUTE,
        .summary = "delete a snapshot",
        .example = "gemel vm snapshot-delete web1 before-upgrade",
    },
    {
        .name = "vm revert",
        .object = CLI_OBJECT_TWO,
        .object_name = "VM ID",
        .second = "snapshot",
        .danger = "This throws away what the VM has done since the snapshot.",
        .timeout_ms = 10 * MINUTE,
        .summary = "put a VM back to a snapshot",
        .details = "A running VM is killed first. With a saved state it goes on from "
                   "there; else it is stopped. Until every disk is copied, nothing is "
                   "changed.",
        .example = "gemel vm revert web1 before-upgrade",
    },
    {
        .name = "vm clone",
        .object = CLI_OBJECT_TWO,
        .object_name = "VM NEW",
        .second = "to",
        .options = CLI_BIT(CLI_OPT_SNAPSHOT),
        .timeout_ms = 10 * MINUTE,
        .summary = "make a new VM with copies of the disks of another",
        .details = "The new VM has its own uuid and MAC addresses and is not started; it "
                   "boots like any other. The VM that is copied has to be stopped or "
                   "suspended, or --snapshot names one.",
        .example = "gemel vm clone web1 web2 --snapshot before-upgrade",
    },
    {
        .name = "vm balloon",
        .object = CLI_OBJECT_TWO,
        .object_name = "VM SIZE",
        .second = "size",
        .timeout_ms = 10000,
        .summary = "let a running guest give memory back, or have it again",
        .details =
            "SIZE is what the guest should do without; 0B: nothing. Asked on the "
            "node where the VM runs; vm show tells how far the guest is. A VM that "
            "starts again has all its memory.",
        .example = "gemel vm balloon web1 512MiB",
    },
    {
        .name = "vm delete",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .danger = "This removes the VM from the cluster. Its files stay.",
        .timeout_ms = MINUTE,
        .summary = "forget a stopped VM; its files stay",
        .details = "A VM that is defined with this name later has its directory, disks "
                   "and snapshots. A suspended state is given up by its first start "
                   "with --discard-state only.",
        .example = "gemel vm delete web1",
    },
    {
        .name = "vm console",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "attach to the serial console; Ctrl-] leaves",
        .details = "Works on the node where the VM runs.",
        .example = "gemel vm console web1",
        .run = cli_run_console,
    },
    {
        .name = "vm retry",
        .object = CLI_OBJECT_ONE,
        .object_name = "VM",
        .timeout_ms = 2 * MINUTE,
        .summary = "try a failed or paused VM again now, its failures forgotten",
        .example = "gemel vm retry web1",
    },
    {
        .name = "explain",
        .object = CLI_OBJECT_ONE,
        .object_name = "NAME",
        .reads = true,
        .timeout_ms = 10000,
        .summary = "why a VM or node is as it is, and what it waits for",
        .example = "gemel explain web1",
        .render = cli_render_explain,
    },
    {
        .name = "events",
        .reads = true,
        .options = CLI_BIT(CLI_OPT_FOLLOW) | CLI_BIT(CLI_OPT_SINCE),
        .timeout_ms = 10000,
        .summary = "what happened",
        .details =
            "A record has a sequence number and is the same on every node; 0 marks "
            "what only this node saw.",
        .example = "gemel events --follow",
        .run = cli_run_events,
        .render = cli_render_events,
    },
    {
        .name = "config check",
        .object = CLI_OBJECT_FILES,
        .object_name = "FILE...",
        .reads = true,
        .options = CLI_BIT(CLI_OPT_VMROOT),
        .summary = "check definitions without an agent",
        .details = "Node, cluster and VM definitions, told apart by their keys; VMs also "
                   "against each other, and "
                   "against the nodes' memory if their files are given.",
        .example = "gemel config check cluster.yaml node.yaml web1.yaml",
        .run = cli_run_config_check,
    },
    {
        .name = "version",
        .reads = true,
        .summary = "the version of this command",
        .run = cli_run_version,
    },
    {.name = NULL},
};
