/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/blk_nbd_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define NBD_LIB_NAME "libnbd.so.0"

struct nbd_lib nbd_lib;

static void *lookup(void *lib, const char *name, struct vmm_error *err)
{
    void *p = dlsym(lib, name);

    if (!p) {
        (void)vmm_fail(err, -ENOSYS, "%s is too old for NBD disks: %s is not in it",
                       NBD_LIB_NAME, name);
    }
    return p;
}

int nbd_lib_load(struct vmm_error *err)
{
    static bool loaded;
    void *lib, *p;

    if (loaded) {
        return 0;
    }
    lib = dlopen(NBD_LIB_NAME, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        return vmm_fail(err, -ENOENT,
                        "NBD disks need libnbd, and it cannot be loaded: %s; install the "
                        "package libnbd0",
                        dlerror());
    }
#define NBD_LIB_FIND(name)                                                               \
    p = lookup(lib, "nbd_" #name, err);                                                  \
    if (!p) {                                                                            \
        dlclose(lib);                                                                    \
        return -ENOSYS;                                                                  \
    }                                                                                    \
    memcpy(&nbd_lib.name, &p, sizeof p);
    NBD_LIB_FUNCTIONS(NBD_LIB_FIND)
#undef NBD_LIB_FIND
    loaded = true; /* for good: its own threads and handlers may point into it */
    return 0;
}
