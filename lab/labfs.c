/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/labfs.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "lab/labfs_fault.h"
#include "lab/labfs_priv.h"

#define THREADS 16

struct labfs labfs;

static int serve(struct fuse_session *se)
{
    struct fuse_loop_config *loop = fuse_loop_cfg_create();

    if (loop == NULL) {
        return 1;
    }
    if (labfs_fault_start(labfs.config->control_fd) < 0) {
        fuse_loop_cfg_destroy(loop);
        return 1;
    }
    fuse_loop_cfg_set_idle_threads(loop, THREADS);
    fuse_loop_cfg_set_max_threads(loop, THREADS);
    fuse_loop_cfg_set_clone_fd(loop, 0);
    (void)!write(labfs.config->ready_fd, "r", 1);
    close(labfs.config->ready_fd);
    int r = fuse_session_loop_mt(se, loop);
    fuse_loop_cfg_destroy(loop);
    return r == 0 || r == SIGTERM ? 0 : 1;
}

int labfs_main(const struct labfs_config *config)
{
    struct lab_path options =
        lab_path("fsname=labfs-%s,default_permissions,allow_other", config->name);
    char program[] = "gemel-labfs", flag[] = "-o";
    char *argv[] = {program, flag, options.s, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fuse_lowlevel_ops ops = {0};
    struct stat root;
    int r = 1;

    if (fstat(config->source_fd, &root) < 0 ||
        labfs_undo_open(&labfs.undo, config->source_fd, config->undo_fd) < 0) {
        return 1;
    }
    labfs.config = config;
    labfs_inode_root(config->source_fd, root.st_ino);
    labfs_data_ops(&ops);
    labfs_names_ops(&ops);
    umask(0);
    labfs.proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    labfs.log_fd =
        config->log_path != NULL
            ? open(config->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)
            : -1;
    struct fuse_session *se = fuse_session_new(&args, &ops, sizeof ops, NULL);
    if (se == NULL) {
        goto out;
    }
    if (labfs.proc_fd >= 0 && fuse_set_signal_handlers(se) == 0 &&
        fuse_session_mount(se, config->mountpoint) == 0) {
        r = serve(se);
        /* After an orderly end: what a system would write when it unmounts. */
        labfs_data_write_all();
        labfs_undo_commit(&labfs.undo, 0);
        fuse_session_unmount(se);
    }
    fuse_session_destroy(se);
out:
    fuse_opt_free_args(&args);
    return r;
}
