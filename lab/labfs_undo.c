/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/labfs_undo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lab/lab_util.h"

/* A note is three lines: what was done, the path, the second path of a rename (or
 * nothing). */
enum done { CREATED = 'c', UNLINKED = 'u', RENAMED = 'r' };

static struct lab_path note_name(unsigned long number)
{
    return lab_path("%012lu.note", number);
}

static struct lab_path kept_name(unsigned long number)
{
    return lab_path("%012lu.kept", number);
}

static bool is_there(const struct labfs_undo *undo, const char *path)
{
    struct stat st;

    return fstatat(undo->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void remove_note(const struct labfs_undo *undo, unsigned long number)
{
    struct lab_path note = note_name(number), kept = kept_name(number);

    unlinkat(undo->note_fd, note.s, 0);
    unlinkat(undo->note_fd, kept.s, 0);
}

/* ---- taking back ---- */

static void take_back(const struct labfs_undo *undo, unsigned long number, enum done done,
                      const char *path, const char *to)
{
    struct lab_path kept = kept_name(number);

    switch (done) {
    case CREATED:
        if (unlinkat(undo->root_fd, path, 0) < 0 && errno == EISDIR) {
            unlinkat(undo->root_fd, path, AT_REMOVEDIR);
        }
        break;
    case UNLINKED:
        if (!is_there(undo, path)) {
            renameat(undo->note_fd, kept.s, undo->root_fd, path);
        }
        break;
    case RENAMED:
        /* If the old name is there, the rename was not made. */
        if (!is_there(undo, path) &&
            renameat(undo->root_fd, to, undo->root_fd, path) == 0) {
            renameat(undo->note_fd, kept.s, undo->root_fd,
                     to); /* what it replaced, if anything */
        }
        break;
    }
}

static void take_back_note(const struct labfs_undo *undo, const char *name)
{
    char buf[3 * PATH_LEN_MAX];
    unsigned number;
    struct lab_path digits = lab_path("%.12s", name);

    int fd = openat(undo->note_fd, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (fd >= 0) {
        close(fd);
    }
    const char *from = digits.s + strspn(digits.s, "0");
    if (n <= 0 || !lab_number(*from != '\0' ? from : "0", 0, UINT32_MAX, &number)) {
        return;
    }
    buf[n] = '\0';
    char *path = strchr(buf, '\n');
    char *to = path != NULL ? strchr(path + 1, '\n') : NULL;
    char *end = to != NULL ? strchr(to + 1, '\n') : NULL;
    if (end != NULL) { /* else it is torn: the change was not begun */
        *path = *to = *end = '\0';
        take_back(undo, number, (enum done)buf[0], path + 1, to + 1);
    }
    remove_note(undo, number);
}

static int is_note(const struct dirent *entry)
{
    return strlen(entry->d_name) == 17 && strcmp(entry->d_name + 12, ".note") == 0;
}

int labfs_undo_open(struct labfs_undo *undo, int root_fd, int note_fd)
{
    struct dirent **names;

    *undo = (struct labfs_undo){.root_fd = root_fd, .note_fd = note_fd};
    pthread_mutex_init(&undo->lock, NULL);
    if (note_fd < 0) {
        return 0;
    }
    int count = scandirat(note_fd, ".", &names, is_note, alphasort);
    if (count < 0) {
        return -errno;
    }
    for (int i = count - 1; i >= 0; i--) {
        take_back_note(undo, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return count;
}

/* ---- noting ---- */

static int note(struct labfs_undo *undo, enum done done, const ino_t dir[2],
                const char *path, const char *to, unsigned long *ret_number)
{
    char buf[3 * PATH_LEN_MAX];
    int r = 0;

    struct labfs_note *n = malloc(sizeof *n);
    if (n == NULL) {
        return -ENOMEM;
    }
    *n = (struct labfs_note){
        .next = undo->notes, .number = ++undo->last, .dir = {dir[0], dir[1]}};
    struct lab_path name = note_name(n->number), kept = kept_name(n->number);
    const char *removed = done == UNLINKED ? path : done == RENAMED ? to : NULL;
    if (removed != NULL && is_there(undo, removed) &&
        linkat(undo->root_fd, removed, undo->note_fd, kept.s, 0) < 0 && errno != EPERM) {
        r = -errno; /* EPERM: a directory */
    }
    int fd = r < 0 ? -1
                   : openat(undo->note_fd, name.s,
                            O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int len = snprintf(buf, sizeof buf, "%c\n%s\n%s\n", done, path, to);
    if (r == 0 && (fd < 0 || write(fd, buf, (size_t)len) != len)) {
        r = errno != 0 ? -errno : -EIO;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (r < 0) {
        remove_note(undo, n->number);
        free(n);
        return r;
    }
    undo->notes = n;
    *ret_number = n->number;
    return 0;
}

int labfs_undo_create(struct labfs_undo *undo, ino_t dir, const char *path,
                      unsigned long *ret_number)
{
    *ret_number = 0;
    if (undo->note_fd < 0 || is_there(undo, path)) {
        return 0; /* nothing is created */
    }
    return note(undo, CREATED, (ino_t[2]){dir, dir}, path, "", ret_number);
}

int labfs_undo_unlink(struct labfs_undo *undo, ino_t dir, const char *path,
                      unsigned long *ret_number)
{
    *ret_number = 0;
    if (undo->note_fd < 0 || !is_there(undo, path)) {
        return 0;
    }
    return note(undo, UNLINKED, (ino_t[2]){dir, dir}, path, "", ret_number);
}

int labfs_undo_rename(struct labfs_undo *undo, ino_t from_dir, const char *from,
                      ino_t to_dir, const char *to, unsigned long *ret_number)
{
    *ret_number = 0;
    if (undo->note_fd < 0 || !is_there(undo, from)) {
        return 0;
    }
    return note(undo, RENAMED, (ino_t[2]){from_dir, to_dir}, from, to, ret_number);
}

void labfs_undo_cancel(struct labfs_undo *undo, unsigned long number)
{
    struct labfs_note *n = undo->notes;

    if (number != 0 && n != NULL &&
        n->number == number) { /* the newest: the lock was held all the time */
        undo->notes = n->next;
        remove_note(undo, number);
        free(n);
    }
}

void labfs_undo_commit(struct labfs_undo *undo, ino_t dir)
{
    struct labfs_note **link = &undo->notes;

    while (*link != NULL) {
        struct labfs_note *n = *link;
        if (dir == 0 || n->dir[0] == dir || n->dir[1] == dir) {
            *link = n->next;
            remove_note(undo, n->number);
            free(n);
        } else {
            link = &n->next;
        }
    }
}
