/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar is corosync.conf(5) of Corosync 3.1: one keyword per line, nothing behind
 * an opening bracket. Names and addresses were checked by the schema, so that none can
 * end a line or open a section.
 */
#include "cluster-conf/conf_corosync.h"

#include <string.h>

#include "cluster-conf/conf_text.h"

static void line(struct conf_text *text, const char *key, const char *value)
{
    conf_text_strs(text, "    ", key, ": ", value, "\n", NULL);
}

static void line_u64(struct conf_text *text, const char *key, uint64_t value)
{
    conf_text_strs(text, "    ", key, ": ", NULL);
    conf_text_u64(text, value);
    conf_text_str(text, "\n");
}

/*
 * knet works its timers off every 200 ms, and the ping timeout that Corosync derives from
 * the token (half of it) may be shorter: with token 300 a healthy link went down every
 * 9 s, and took the token with it. There is one link, so only the token has to decide who
 * is gone, and the link is given longer than that.
 */
static void write_interface(struct conf_text *text, const struct conf_cluster *cluster)
{
    conf_text_str(text, "    interface {\n    ");
    line(text, "linknumber", "0");
    conf_text_str(text, "    ");
    line_u64(text, "knet_ping_interval", 100);
    conf_text_str(text, "    ");
    line_u64(text, "knet_ping_timeout",
             cluster->token_ms > 1000 ? cluster->token_ms : 1000);
    conf_text_str(text, "    }\n");
}

static void write_totem(struct conf_text *text, const struct conf_cluster *cluster,
                        const struct conf_corosync_paths *paths)
{
    conf_text_str(text, "totem {\n");
    line(text, "version", "2");
    line(text, "cluster_name", cluster->name);
    line(text, "transport", "knet");
    line(text, "link_mode", "passive");
    line_u64(text, "token", cluster->token_ms);
    line_u64(text, "token_coefficient", cluster->token_coefficient_ms);
    if (cluster->crypto) {
        line(text, "crypto_model", "nss");
        line(text, "crypto_cipher", "aes256");
        line(text, "crypto_hash", "sha256");
        if (paths->keyfile != NULL) {
            line(text, "keyfile", paths->keyfile);
        }
    } else {
        line(text, "crypto_cipher", "none");
        line(text, "crypto_hash", "none");
    }
    write_interface(text, cluster);
    conf_text_str(text, "}\n\n");
}

static void write_nodelist(struct conf_text *text, const struct conf_cluster *cluster)
{
    conf_text_str(text, "nodelist {\n");
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct conf_cluster_node *node = &cluster->node[i];

        conf_text_str(text, "    node {\n    ");
        line(text, "ring0_addr", node->addr);
        conf_text_str(text, "    ");
        line(text, "name", node->name);
        conf_text_str(text, "    ");
        line_u64(text, "nodeid", node->nodeid);
        conf_text_str(text, "    }\n");
    }
    conf_text_str(text, "}\n\n");
}

static void write_logging(struct conf_text *text, const struct conf_corosync_paths *paths)
{
    conf_text_str(text, "logging {\n");
    line(text, "to_stderr", "no");
    line(text, "to_syslog", paths->log_file != NULL ? "no" : "yes");
    if (paths->log_file != NULL) {
        line(text, "to_logfile", "yes");
        line(text, "logfile", paths->log_file);
        line(text, "timestamp", "hires");
    }
    conf_text_str(text, "}\n");
}

size_t conf_corosync_write(const struct conf_cluster *cluster, const char *local,
                           const struct conf_corosync_paths *paths, char *buf, size_t cap)
{
    struct conf_text text = conf_text_make(buf, cap);
    bool known = false;

    for (unsigned i = 0; i < cluster->node_count; i++) {
        known = known || strcmp(cluster->node[i].name, local) == 0;
    }
    if (!known) {
        return 0;
    }
    conf_text_strs(&text, "# Written by gemel from the definition of cluster ",
                   cluster->name, ", for node ", local,
                   ".\n# Change the definition, not this file.\n", NULL);
    write_totem(&text, cluster, paths);
    write_nodelist(&text, cluster);
    conf_text_str(&text, "quorum {\n");
    line(&text, "provider", "corosync_votequorum");
    if (cluster->node_count == 2) {
        /* Both halves of a split stay quorate; fencing decides. Implies wait_for_all. */
        line(&text, "two_node", "1");
    }
    conf_text_str(&text, "}\n\n");
    if (cluster->insecure_lab || paths->state_dir != NULL) {
        conf_text_str(&text, "system {\n");
        if (paths->state_dir != NULL) {
            line(&text, "state_dir", paths->state_dir);
        }
        if (cluster->insecure_lab) {
            line(&text, "sched_rr", "no");
            line(&text, "move_to_root_cgroup", "no");
        }
        conf_text_str(&text, "}\n\n");
    }
    write_logging(&text, paths);
    return text.truncated ? 0 : text.len;
}
