# SPDX-License-Identifier: Apache-2.0
# libvmm_io.la is the shell: KVM, threads, files, tap, sockets.
noinst_LTLIBRARIES += libvmm_io.la

libvmm_io_la_CFLAGS = $(AM_CFLAGS)
libvmm_io_la_SOURCES = \
	vmm/cpuid_lockstep.c vmm/cpuid_lockstep.h \
	vmm/kvm_linux.c vmm/kvm_ops.h \
	vmm/vcpu.c vmm/vcpu.h \
	vmm/vm.c vmm/vm.h \
	vmm/vmm_error.c vmm/vmm_error.h
$(libvmm_io_la_OBJECTS): base/proto_ctl.pb-c.h
