/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory on a disk that loses what was not synced: losefs SOURCE MOUNT [NOTES]
 * mounts the lab's file system (lab/labfs.h) and prints "ready". Lines on stdin are its
 * control messages ("eio 1"). SIGKILL is the power cut; then umount -l MOUNT. Names are
 * durable at once, as on shared storage; with a directory NOTES only when their directory
 * was synced: the next losefs with it takes back the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/labfs.h"

static int control[2], ready[2];

static void *pass_lines(void *data)
{
    char line[256], byte;

    (void)data;
    if (read(ready[0], &byte, 1) == 1) {
        printf("ready\n");
        fflush(stdout);
    }
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        (void)lab_ipc_send(control[0], line, strlen(line), -1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct labfs_config config = {.name = "shared", .node = "test"};
    pthread_t thread;

    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: losefs SOURCE MOUNT [NOTES]\n");
        return 2;
    }
    config.source_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    config.undo_fd = argc == 4 ? open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (config.source_fd < 0 || (argc == 4 && config.undo_fd < 0) ||
        lab_ipc_pair(control) < 0 || pipe(ready) < 0 ||
        pthread_create(&thread, NULL, pass_lines, NULL) != 0) {
        fprintf(stderr, "losefs: %s: %s\n", argv[1], strerror(errno));
        return EXIT_FAILURE;
    }
    config.mountpoint = argv[2];
    config.control_fd = control[1];
    config.ready_fd = ready[1];
    return labfs_main(&config);
}
