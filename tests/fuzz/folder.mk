# SPDX-License-Identifier: Apache-2.0
# libFuzzer targets, built by tests/fuzz/run (clang, --enable-fuzz --enable-asan). To add one: tests/fuzz/fuzz_NAME.c with
# FUZZ_ONE, its lines below, seeds in tests/fuzz/corpus/fuzz_NAME/. A crash that was found goes into the corpus for good.
EXTRA_DIST += tests/fuzz/run tests/fuzz/corpus
.PHONY: fuzz-targets fuzz-list
if FUZZ
FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer
FUZZ_TARGETS += tests/fuzz/fuzz_frame
tests_fuzz_fuzz_frame_SOURCES = tests/fuzz/fuzz_frame.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_frame_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_frame_LDADD = libbase_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_cpu_model
tests_fuzz_fuzz_cpu_model_SOURCES = tests/fuzz/fuzz_cpu_model.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_cpu_model_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_cpu_model_LDADD = libbase_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_state_io
tests_fuzz_fuzz_state_io_SOURCES = tests/fuzz/fuzz_state_io.c tests/fuzz/fuzz.h tests/fuzz/state_crc.h
tests_fuzz_fuzz_state_io_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_state_io_LDADD = libbase_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_proto_ctl
tests_fuzz_fuzz_proto_ctl_SOURCES = tests/fuzz/fuzz_proto_ctl.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_proto_ctl_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_proto_ctl_LDADD = libbase_io.la
$(tests_fuzz_fuzz_proto_ctl_OBJECTS): base/proto_ctl.pb-c.h

FUZZ_TARGETS += tests/fuzz/fuzz_nbd
tests_fuzz_fuzz_nbd_SOURCES = tests/fuzz/fuzz_nbd.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_nbd_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_nbd_LDADD = libvmm_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_ha_msg
tests_fuzz_fuzz_ha_msg_SOURCES = tests/fuzz/fuzz_ha_msg.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_ha_msg_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_ha_msg_LDADD = libha_core.la libfencing_core.la libcluster_conf_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_ha_fit
tests_fuzz_fuzz_ha_fit_SOURCES = tests/fuzz/fuzz_ha_fit.c tests/fuzz/fuzz.h tests/fuzz/state_crc.h
tests_fuzz_fuzz_ha_fit_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_ha_fit_LDADD = libha_io.la libha_core.la libfencing_io.la libcluster_conf_io.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_virtq
tests_fuzz_fuzz_virtq_SOURCES = tests/fuzz/fuzz_virtq.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_virtq_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_virtq_LDADD = libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_machine
FUZZ_RIG = tests/fuzz/fuzz.h tests/fuzz/fuzz_rig.c tests/fuzz/fuzz_rig.h \
	tests/unit/vmm/machine_rig.c tests/unit/vmm/machine_rig.h
tests_fuzz_fuzz_machine_SOURCES = tests/fuzz/fuzz_machine.c $(FUZZ_RIG)
tests_fuzz_fuzz_machine_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
tests_fuzz_fuzz_machine_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_machine_LDADD = libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_pci
tests_fuzz_fuzz_pci_SOURCES = tests/fuzz/fuzz_pci.c $(FUZZ_RIG)
tests_fuzz_fuzz_pci_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
tests_fuzz_fuzz_pci_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_pci_LDADD = libvmm_core.la libbase_io.la
FUZZ_TARGETS += tests/fuzz/fuzz_extras
tests_fuzz_fuzz_extras_SOURCES = tests/fuzz/fuzz_extras.c $(FUZZ_RIG)
tests_fuzz_fuzz_extras_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
tests_fuzz_fuzz_extras_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_extras_LDADD = libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_guest_agent
tests_fuzz_fuzz_guest_agent_SOURCES = tests/fuzz/fuzz_guest_agent.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_guest_agent_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_guest_agent_LDADD = libvmm_io.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_bzimage
tests_fuzz_fuzz_bzimage_SOURCES = tests/fuzz/fuzz_bzimage.c tests/fuzz/boot_fuzz.h tests/fuzz/fuzz.h \
	tests/unit/vmm/boot_rig.c tests/unit/vmm/boot_rig.h
tests_fuzz_fuzz_bzimage_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
tests_fuzz_fuzz_bzimage_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_bzimage_LDADD = libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_elf
tests_fuzz_fuzz_elf_SOURCES = tests/fuzz/fuzz_elf.c tests/fuzz/boot_fuzz.h tests/fuzz/fuzz.h \
	tests/unit/vmm/boot_rig.c tests/unit/vmm/boot_rig.h
tests_fuzz_fuzz_elf_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
tests_fuzz_fuzz_elf_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_elf_LDADD = libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_fwcfg
tests_fuzz_fuzz_fwcfg_SOURCES = tests/fuzz/fuzz_fwcfg.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_fwcfg_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_fwcfg_LDADD = libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_vm_state
tests_fuzz_fuzz_vm_state_SOURCES = tests/fuzz/fuzz_vm_state.c tests/fuzz/fuzz.h \
	tests/unit/vmm/fake_kvm.c tests/unit/vmm/fake_kvm.h
tests_fuzz_fuzz_vm_state_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_vm_state_LDADD = libvmm_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_mig_open
tests_fuzz_fuzz_mig_open_SOURCES = tests/fuzz/fuzz_mig_open.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_mig_open_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_mig_open_LDADD = libmigrate_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_mig_msg
tests_fuzz_fuzz_mig_msg_SOURCES = tests/fuzz/fuzz_mig_msg.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_mig_msg_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_mig_msg_LDADD = libmigrate_io.la libmigrate_core.la libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_ft_wire
tests_fuzz_fuzz_ft_wire_SOURCES = tests/fuzz/fuzz_ft_wire.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_ft_wire_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_ft_wire_LDADD = libft_core.la libvmm_core.la libbase_io.la
FUZZ_TARGETS += tests/fuzz/fuzz_ft_log
tests_fuzz_fuzz_ft_log_SOURCES = tests/fuzz/fuzz_ft_log.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_ft_log_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_ft_log_LDADD = libft_core.la libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_ft_session
tests_fuzz_fuzz_ft_session_SOURCES = tests/fuzz/fuzz_ft_session.c tests/fuzz/fuzz.h tests/unit/ft/fake_engine.c tests/unit/ft/fake_engine.h
tests_fuzz_fuzz_ft_session_LDFLAGS = $(FUZZ_LINK) -Wl,--wrap=pthread_cond_wait -Wl,--wrap=pthread_cond_timedwait \
	-Wl,--wrap=mig_pool_run -Wl,--wrap=mig_pool_wait -Wl,--wrap=mig_conn_send
tests_fuzz_fuzz_ft_session_LDADD = libft_io.la libmigrate_io.la libmigrate_core.la libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_mig_holes
tests_fuzz_fuzz_mig_holes_SOURCES = tests/fuzz/fuzz_mig_holes.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_mig_holes_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_mig_holes_LDADD = libmigrate_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_mig_ram
tests_fuzz_fuzz_mig_ram_SOURCES = tests/fuzz/fuzz_mig_ram.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_mig_ram_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_mig_ram_LDADD = libmigrate_core.la libvmm_core.la libbase_io.la

FUZZ_TARGETS += tests/fuzz/fuzz_mig_in
tests_fuzz_fuzz_mig_in_SOURCES = tests/fuzz/fuzz_mig_in.c tests/fuzz/fuzz.h \
	tests/fuzz/mig_dst_rig.c tests/fuzz/mig_dst_rig.h tests/fuzz/mig_mutate.c \
	tests/fuzz/mig_oracle.c tests/fuzz/mig_oracle.h tests/fuzz/mig_script.c tests/fuzz/mig_script.h \
	tests/unit/vmm/fake_kvm.c tests/unit/vmm/fake_kvm.h
tests_fuzz_fuzz_mig_in_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_mig_in_LDADD = libmigrate_io.la libmigrate_core.la libvmm_io.la libvmm_core.la libbase_io.la

EXTRA_PROGRAMS = $(FUZZ_TARGETS)
endif
fuzz-targets: $(FUZZ_TARGETS)
fuzz-list:
	@printf '%s\n' $(FUZZ_TARGETS)
