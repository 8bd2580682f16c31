/* SPDX-License-Identifier: Apache-2.0 */
/* tests/golden/corosync: NAME.yaml must give NAME.conf. GOLDEN_WRITE=1 writes them anew.
 */
#include <stdlib.h>
#include <string.h>

#include "cluster-conf/conf_corosync.h"
#include "cluster-conf/conf_load.h"
#include "tests/unit/unit.h"

static void read_file(const char *name, const char *suffix, char *text, size_t cap)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s.%s", GOLDEN, name, suffix);
    file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s", path);
    text[fread(text, 1, cap - 1, file)] = '\0';
    fclose(file);
}

START_TEST(test_golden)
{
    static const struct {
        const char *name, *local;
        struct conf_corosync_paths paths;
    } cases[] = {
        {"three", "n2", {0}},
        {"two", "left", {.keyfile = "/etc/gemel/authkey"}},
        {"lab", "n1", {.state_dir = "/lab/n1/state", .log_file = "/lab/n1/corosync.log"}},
    };
    const char *local = cases[_i].local;
    struct conf_cluster *cluster = malloc(sizeof *cluster);
    struct conf_error error;
    static char yaml[32768], want[32768], have[32768];

    read_file(cases[_i].name, "yaml", yaml, sizeof yaml);
    ck_assert_msg(
        conf_cluster_load(yaml, strlen(yaml), cases[_i].name, cluster, &error) == 0, "%s",
        error.text);
    ck_assert_uint_gt(
        conf_corosync_write(cluster, local, &cases[_i].paths, have, sizeof have), 0);
    if (getenv("GOLDEN_WRITE") != NULL) {
        char path[512];
        FILE *file;

        snprintf(path, sizeof path, "%s/%s.conf", GOLDEN, cases[_i].name);
        file = fopen(path, "we");
        fputs(have, file);
        fclose(file);
    }
    read_file(cases[_i].name, "conf", want, sizeof want);
    ck_assert_str_eq(have, want);
    ck_assert_uint_eq(
        conf_corosync_write(cluster, "n9", &cases[_i].paths, have, sizeof have), 0);
    ck_assert_uint_eq(conf_corosync_write(cluster, local, &cases[_i].paths, have, 200),
                      0);
    free(cluster);
}
END_TEST

/* The largest cluster there is, with the longest names, fits the size promised. */
START_TEST(test_largest)
{
    struct conf_cluster *cluster = calloc(1, sizeof *cluster);
    struct conf_corosync_paths paths = {0};
    static char text[32768];

    strcpy(cluster->name, "c");
    cluster->node_count = NODES_MAX;
    for (unsigned i = 0; i < NODES_MAX; i++) {
        memset(cluster->node[i].name, 'n', NODE_NAME_MAX);
        memset(cluster->node[i].addr, 'a', sizeof cluster->node[i].addr - 1);
        cluster->node[i].nodeid = UINT32_MAX;
    }
    ck_assert_uint_gt(
        conf_corosync_write(cluster, cluster->node[63].name, &paths, text, sizeof text),
        0);
    free(cluster);
}
END_TEST

static Suite *conf_corosync_suite(void)
{
    Suite *suite = suite_create("conf_corosync");
    TCase *tcase = tcase_create("corosync.conf");

    tcase_add_loop_test(tcase, test_golden, 0, 3);
    tcase_add_test(tcase, test_largest);
    suite_add_tcase(suite, tcase);
    return suite;
}

UNIT_MAIN(conf_corosync_suite)
