# SPDX-License-Identifier: Apache-2.0

# gemel-vmm
sbin_PROGRAMS += gemel-vmm
gemel_vmm_SOURCES = \
	programs/gemel_vmm.c \
	programs/gemel_vmm_opts.c programs/gemel_vmm_opts.h \
	programs/gemel_vmm_probe.c programs/gemel_vmm_probe.h
gemel_vmm_LDADD = libvmm_io.la libvmm_core.la libbase_io.la
$(gemel_vmm_OBJECTS): base/proto_ctl.pb-c.h
# end of gemel-vmm
# gemel-fenced ---------------------------------------------------------------------------------------------------------
sbin_PROGRAMS += gemel-fenced
gemel_fenced_SOURCES = programs/gemel_fenced.c
gemel_fenced_LDADD = libfencing_io.la libbase_io.la
