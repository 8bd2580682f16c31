# SPDX-License-Identifier: Apache-2.0
# libvmm_core.la: guest memory, bus, devices, machine. Pure.
noinst_LTLIBRARIES += libvmm_core.la
libvmm_core_la_SOURCES = \
	vmm/acpi.c vmm/acpi.h vmm/acpi_dsdt.c vmm/acpi_dsdt.h vmm/acpi_loader.c \
	vmm/aml.c vmm/aml.h vmm/board.h \
	vmm/boot_bzimage.c vmm/boot_linux.c vmm/boot_linux.h vmm/boot_priv.h vmm/boot_pvh.c \
	vmm/disk_marks.c vmm/disk_marks.h \
	vmm/e820.c vmm/e820.h \
	vmm/bus.c vmm/bus.h \
	vmm/dev.h \
	vmm/dev_debug.c vmm/dev_debug.h \
	vmm/dev_fwcfg.c vmm/dev_fwcfg.h \
	vmm/dev_i6300esb.c vmm/dev_i6300esb.h \
	vmm/dev_none.c vmm/dev_none.h \
	vmm/dev_pic.c vmm/dev_pic.h \
	vmm/dev_pit.c vmm/dev_pit.h \
	vmm/dev_pm.c vmm/dev_pm.h \
	vmm/dev_pvpanic.c vmm/dev_pvpanic.h \
	vmm/dev_reset.c vmm/dev_reset.h \
	vmm/dev_rtc.c vmm/dev_rtc.h \
	vmm/dev_uart.c vmm/dev_uart.h \
	vmm/dev_vballoon.c vmm/dev_vballoon.h \
	vmm/dev_vblk.c vmm/dev_vblk.h \
	vmm/dev_vcon.c vmm/dev_vcon.h \
	vmm/dev_virtio.c vmm/dev_virtio.h \
	vmm/dev_vmmio.c vmm/dev_vmmio.h \
	vmm/dev_vnet.c vmm/dev_vnet.h \
	vmm/dev_vpci.c vmm/dev_vpci.h \
	vmm/dev_vrng.c vmm/dev_vrng.h \
	vmm/gmem.c vmm/gmem.h \
	vmm/machine.c vmm/machine.h vmm/machine_priv.h \
	vmm/machine_board.c vmm/machine_pci.c vmm/machine_state.c \
	vmm/msix.c vmm/msix.h \
	vmm/pci.c vmm/pci.h \
	vmm/rate.c vmm/rate.h \
	vmm/virtq.c vmm/virtq.h
libvmm_core_la_CFLAGS = $(CORE_CFLAGS)

VMM_RIG = tests/unit/unit.h tests/unit/vmm/machine_rig.c tests/unit/vmm/machine_rig.h
VMM_UNIT_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
VMM_UNIT_LIBS = libvmm_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/vmm/check_replay
tests_unit_vmm_check_replay_SOURCES = tests/unit/vmm/check_replay.c $(VMM_RIG)
tests_unit_vmm_check_replay_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_replay_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_disk_marks
tests_unit_vmm_check_disk_marks_SOURCES = tests/unit/vmm/check_disk_marks.c tests/unit/unit.h
tests_unit_vmm_check_disk_marks_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_disk_marks_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_gmem
tests_unit_vmm_check_gmem_SOURCES = tests/unit/vmm/check_gmem.c tests/unit/unit.h
tests_unit_vmm_check_gmem_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_gmem_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_virtq
tests_unit_vmm_check_virtq_SOURCES = tests/unit/vmm/check_virtq.c tests/unit/unit.h
tests_unit_vmm_check_virtq_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_virtq_LDADD = $(VMM_UNIT_LIBS)
tests_unit_vmm_check_virtq_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gmem_read -Wl,--wrap=gmem_load16
UNIT_TESTS += tests/unit/vmm/check_pic
tests_unit_vmm_check_pic_SOURCES = tests/unit/vmm/check_pic.c tests/unit/unit.h
tests_unit_vmm_check_pic_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_pic_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_uart
tests_unit_vmm_check_uart_SOURCES = tests/unit/vmm/check_uart.c tests/unit/unit.h
tests_unit_vmm_check_uart_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_uart_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_pit
tests_unit_vmm_check_pit_SOURCES = tests/unit/vmm/check_pit.c tests/unit/unit.h
tests_unit_vmm_check_pit_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_pit_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_rtc
tests_unit_vmm_check_rtc_SOURCES = tests/unit/vmm/check_rtc.c tests/unit/unit.h
tests_unit_vmm_check_rtc_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_rtc_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_machine
tests_unit_vmm_check_machine_SOURCES = tests/unit/vmm/check_machine.c $(VMM_RIG)
tests_unit_vmm_check_machine_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_machine_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vmmio
tests_unit_vmm_check_vmmio_SOURCES = tests/unit/vmm/check_vmmio.c $(VMM_RIG)
tests_unit_vmm_check_vmmio_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vmmio_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vblk
tests_unit_vmm_check_vblk_SOURCES = tests/unit/vmm/check_vblk.c $(VMM_RIG)
tests_unit_vmm_check_vblk_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vblk_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vnet
tests_unit_vmm_check_vnet_SOURCES = tests/unit/vmm/check_vnet.c $(VMM_RIG)
tests_unit_vmm_check_vnet_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vnet_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vrng
tests_unit_vmm_check_vrng_SOURCES = tests/unit/vmm/check_vrng.c $(VMM_RIG)
tests_unit_vmm_check_vrng_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vrng_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vcon
tests_unit_vmm_check_vcon_SOURCES = tests/unit/vmm/check_vcon.c $(VMM_RIG)
tests_unit_vmm_check_vcon_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vcon_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vballoon
tests_unit_vmm_check_vballoon_SOURCES = tests/unit/vmm/check_vballoon.c $(VMM_RIG)
tests_unit_vmm_check_vballoon_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vballoon_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_rate
tests_unit_vmm_check_rate_SOURCES = tests/unit/vmm/check_rate.c tests/unit/unit.h
tests_unit_vmm_check_rate_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_rate_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_pci
tests_unit_vmm_check_pci_SOURCES = tests/unit/vmm/check_pci.c $(VMM_RIG)
tests_unit_vmm_check_pci_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_pci_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_msix
tests_unit_vmm_check_msix_SOURCES = tests/unit/vmm/check_msix.c $(VMM_RIG)
tests_unit_vmm_check_msix_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_msix_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vpci
tests_unit_vmm_check_vpci_SOURCES = tests/unit/vmm/check_vpci.c $(VMM_RIG)
tests_unit_vmm_check_vpci_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vpci_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_virtio
tests_unit_vmm_check_virtio_SOURCES = tests/unit/vmm/check_virtio.c $(VMM_RIG)
tests_unit_vmm_check_virtio_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_virtio_LDADD = $(VMM_UNIT_LIBS)
CLASS_RIG = $(VMM_RIG) tests/unit/vmm/class_rig.c tests/unit/vmm/class_rig.h
UNIT_TESTS += tests/unit/vmm/check_class_queue
tests_unit_vmm_check_class_queue_SOURCES = tests/unit/vmm/check_class_queue.c $(CLASS_RIG)
tests_unit_vmm_check_class_queue_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_class_queue_LDADD = $(VMM_UNIT_LIBS)
tests_unit_vmm_check_class_queue_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gmem_read -Wl,--wrap=gmem_load16
UNIT_TESTS += tests/unit/vmm/check_class_regs
tests_unit_vmm_check_class_regs_SOURCES = tests/unit/vmm/check_class_regs.c $(CLASS_RIG)
tests_unit_vmm_check_class_regs_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_class_regs_LDADD = libvmm_io.la $(VMM_UNIT_LIBS)
tests_unit_vmm_check_class_regs_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gmem_read -Wl,--wrap=gmem_load16
UNIT_TESTS += tests/unit/vmm/check_pvpanic
tests_unit_vmm_check_pvpanic_SOURCES = tests/unit/vmm/check_pvpanic.c $(VMM_RIG)
tests_unit_vmm_check_pvpanic_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_pvpanic_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_i6300esb
tests_unit_vmm_check_i6300esb_SOURCES = tests/unit/vmm/check_i6300esb.c $(VMM_RIG)
tests_unit_vmm_check_i6300esb_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_i6300esb_LDADD = $(VMM_UNIT_LIBS)
BOOT_RIG = tests/unit/unit.h tests/unit/vmm/boot_rig.c tests/unit/vmm/boot_rig.h
UNIT_TESTS += tests/unit/vmm/check_boot_linux
tests_unit_vmm_check_boot_linux_SOURCES = tests/unit/vmm/check_boot_linux.c $(BOOT_RIG)
tests_unit_vmm_check_boot_linux_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_boot_linux_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_acpi
tests_unit_vmm_check_acpi_SOURCES = tests/unit/vmm/check_acpi.c tests/unit/unit.h
tests_unit_vmm_check_acpi_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_acpi_LDADD = $(VMM_UNIT_LIBS)
# ACPI tables as text: tests/golden/acpi/NAME
check_PROGRAMS += tests/golden/acpi_run
tests_golden_acpi_run_SOURCES = tests/golden/acpi_run.c
tests_golden_acpi_run_LDADD = libvmm_core.la libbase_io.la
GOLDEN_TESTS += tests/golden/acpi.sh
EXTRA_DIST += tests/golden/acpi
# end of libvmm_core.la

libvmm_core_la_SOURCES += \
	vmm/guest_news.c vmm/guest_news.h \
	vmm/hold_log.c vmm/hold_log.h \
	vmm/cpu_state.c vmm/cpu_state.h \
	vmm/msr_table.c vmm/msr_table.h \
	vmm/state_stream.c vmm/state_stream.h \
	vmm/cpuid_lockstep.c vmm/cpuid_lockstep.h \
	vmm/cpuid_model.c vmm/cpuid_model.h vmm/cpuid_standard.c vmm/cpuid_standard.h \
	vmm/run_state.c vmm/run_state.h

# libvmm_io.la is the shell: KVM, threads, files, tap, sockets.
noinst_LTLIBRARIES += libvmm_io.la

libvmm_io_la_CFLAGS = $(AM_CFLAGS) $(JSONC_CFLAGS) $(NBD_CFLAGS)
libvmm_io_la_SOURCES = \
	vmm/blk_kept.c vmm/blk_kept.h \
	vmm/blk_nbd.c vmm/blk_nbd.h vmm/blk_nbd_conn.c vmm/blk_nbd_conn.h vmm/blk_nbd_lib.c vmm/blk_nbd_lib.h \
	vmm/blk_request.h vmm/blk_uring.c vmm/blk_uring.h vmm/disk_hold.c vmm/disk_hold.h vmm/disks.c vmm/disks.h vmm/engine_disk.c vmm/engine_disk.h \
	vmm/dirty_log.c vmm/dirty_log.h vmm/engine_ram.c vmm/engine_ram.h vmm/engine_shape.c vmm/engine_shape.h \
	vmm/boot_files.c vmm/boot_files.h vmm/vcpu_boot.c vmm/vcpu_boot.h vmm/engine_boot.c \
	vmm/byte_ring.c vmm/byte_ring.h \
	vmm/console.c vmm/console.h \
	vmm/engine.c vmm/engine.h vmm/engine_priv.h vmm/engine_blk.c vmm/engine_clock.c vmm/engine_ops.c vmm/engine_smp.c vmm/engine_steps.c vmm/engine_tape.c vmm/engine_tape.h vmm/engine_tape_state.c vmm/engine_repair.c vmm/engine_shared.c vmm/engine_twin.c vmm/engine_epoch.c vmm/engine_epoch.h vmm/engine_tape_priv.h vmm/engine_vcpu.c \
	vmm/engine_state.c vmm/engine_state.h vmm/engine_work.c \
	vmm/guest_agent.c vmm/guest_agent.h \
	vmm/input_queue.c vmm/input_queue.h \
	vmm/landlock.c vmm/landlock.h \
	vmm/kvm_linux.c vmm/kvm_ops.h \
	vmm/net_tap.c vmm/net_tap.h \
	vmm/priority.c vmm/priority.h vmm/probe.c vmm/probe.h \
	vmm/rot_file.c vmm/rot_file.h \
	vmm/irqchip.c vmm/irqchip.h \
	vmm/sandbox.c vmm/sandbox.h \
	vmm/sandbox_root.c vmm/sandbox_root.h \
	vmm/syscall_filter.c vmm/syscall_filter.h \
	vmm/throttle.c vmm/throttle.h vmm/vcpu.c vmm/vcpu.h \
	vmm/huge_pages.c vmm/huge_pages.h vmm/uffd.c vmm/uffd.h vmm/vm.c vmm/vm.h \
	vmm/vmm_ctl.c vmm/vmm_ctl.h \
	vmm/vmm_error.c vmm/vmm_error.h
libvmm_io_la_LIBADD = libvmm_core.la libbase_io.la $(URING_LIBS) $(JSONC_LIBS)
$(libvmm_io_la_OBJECTS): base/proto_ctl.pb-c.h

UNIT_TESTS += tests/unit/vmm/check_vcpu_exit tests/unit/vmm/check_run_state
tests_unit_vmm_check_vcpu_exit_SOURCES = tests/unit/vmm/check_vcpu_exit.c
tests_unit_vmm_check_vcpu_exit_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_vcpu_exit_LDADD = libvmm_io.la $(UNIT_LIBS)
tests_unit_vmm_check_run_state_SOURCES = tests/unit/vmm/check_run_state.c
tests_unit_vmm_check_run_state_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_run_state_LDADD = libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_state_stream
tests_unit_vmm_check_state_stream_SOURCES = tests/unit/vmm/check_state_stream.c
tests_unit_vmm_check_state_stream_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_state_stream_LDADD = libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_cpu_state
tests_unit_vmm_check_cpu_state_SOURCES = tests/unit/vmm/check_cpu_state.c
tests_unit_vmm_check_cpu_state_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_cpu_state_LDADD = libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_msr_table
tests_unit_vmm_check_msr_table_SOURCES = tests/unit/vmm/check_msr_table.c
tests_unit_vmm_check_msr_table_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_msr_table_LDADD = libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_cpuid_model
tests_unit_vmm_check_cpuid_model_SOURCES = tests/unit/vmm/check_cpuid_model.c
tests_unit_vmm_check_cpuid_model_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_cpuid_model_LDADD = libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_cpuid_standard
tests_unit_vmm_check_cpuid_standard_SOURCES = tests/unit/vmm/check_cpuid_standard.c
tests_unit_vmm_check_cpuid_standard_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_cpuid_standard_LDADD = libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_engine tests/unit/vmm/check_blk_uring
FAKE_KVM = tests/unit/unit.h tests/unit/vmm/fake_kvm.c tests/unit/vmm/fake_kvm.h
tests_unit_vmm_check_engine_SOURCES = tests/unit/vmm/check_engine.c $(FAKE_KVM)
tests_unit_vmm_check_engine_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_engine_LDADD = libvmm_io.la $(UNIT_LIBS)
ENGINE_RIG = $(FAKE_KVM) tests/unit/vmm/engine_rig.c tests/unit/vmm/engine_rig.h
UNIT_TESTS += tests/unit/vmm/check_engine_smp tests/unit/vmm/check_engine_state
tests_unit_vmm_check_engine_smp_SOURCES = tests/unit/vmm/check_engine_smp.c $(ENGINE_RIG)
tests_unit_vmm_check_engine_smp_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_engine_smp_LDADD = libvmm_io.la $(UNIT_LIBS)
tests_unit_vmm_check_engine_state_SOURCES = tests/unit/vmm/check_engine_state.c $(ENGINE_RIG)
tests_unit_vmm_check_engine_state_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_engine_state_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_dirty_log tests/unit/vmm/check_engine_ram
tests_unit_vmm_check_dirty_log_SOURCES = tests/unit/vmm/check_dirty_log.c $(FAKE_KVM)
tests_unit_vmm_check_dirty_log_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_dirty_log_LDADD = libvmm_io.la $(UNIT_LIBS)
tests_unit_vmm_check_dirty_log_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=madvise
tests_unit_vmm_check_engine_ram_SOURCES = tests/unit/vmm/check_engine_ram.c $(ENGINE_RIG)
tests_unit_vmm_check_engine_ram_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_engine_ram_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_throttle
tests_unit_vmm_check_throttle_SOURCES = tests/unit/vmm/check_throttle.c $(ENGINE_RIG)
tests_unit_vmm_check_throttle_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_throttle_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_engine_tape
tests_unit_vmm_check_engine_tape_SOURCES = tests/unit/vmm/check_engine_tape.c $(FAKE_KVM)
tests_unit_vmm_check_engine_tape_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_engine_tape_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_engine_work
tests_unit_vmm_check_engine_work_SOURCES = tests/unit/vmm/check_engine_work.c $(ENGINE_RIG)
tests_unit_vmm_check_engine_work_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_engine_work_LDADD = libvmm_io.la $(UNIT_LIBS)
tests_unit_vmm_check_engine_work_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=blk_in_flight \
	-Wl,--wrap=blk_disk_in_flight -Wl,--wrap=blk_flush
UNIT_TESTS += tests/unit/vmm/check_vmm_ctl
tests_unit_vmm_check_vmm_ctl_SOURCES = tests/unit/vmm/check_vmm_ctl.c $(ENGINE_RIG)
tests_unit_vmm_check_vmm_ctl_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_vmm_ctl_LDADD = libvmm_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_console
tests_unit_vmm_check_console_SOURCES = tests/unit/vmm/check_console.c tests/unit/scratch.h tests/unit/unit.h
tests_unit_vmm_check_console_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_console_LDADD = libvmm_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_state_golden
tests_unit_vmm_check_state_golden_SOURCES = tests/unit/vmm/check_state_golden.c $(FAKE_KVM) \
	tests/unit/vmm/machine_rig.c tests/unit/vmm/machine_rig.h
tests_unit_vmm_check_state_golden_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_state_golden_LDADD = libvmm_io.la $(UNIT_LIBS)
EXTRA_DIST += tests/golden/state/README.md tests/golden/state/lockstep-1.gms \
	tests/golden/state/standard-1.gms tests/golden/state/standard-mmio-1.gms tests/golden/state/standard-2.gms
tests_unit_vmm_check_blk_uring_SOURCES = tests/unit/vmm/check_blk_uring.c
tests_unit_vmm_check_blk_uring_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_blk_uring_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_blk_nbd
tests_unit_vmm_check_blk_nbd_SOURCES = tests/unit/vmm/check_blk_nbd.c tests/unit/vmm/nbd_rig.c tests/unit/vmm/nbd_rig.h
tests_unit_vmm_check_blk_nbd_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)/tests/unit/vmm
tests_unit_vmm_check_blk_nbd_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_guest_agent
tests_unit_vmm_check_guest_agent_SOURCES = tests/unit/vmm/check_guest_agent.c
tests_unit_vmm_check_guest_agent_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_guest_agent_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_vm
tests_unit_vmm_check_vm_SOURCES = tests/unit/vmm/check_vm.c $(FAKE_KVM)
tests_unit_vmm_check_vm_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_vm_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_uffd
tests_unit_vmm_check_uffd_SOURCES = tests/unit/vmm/check_uffd.c tests/unit/unit.h
tests_unit_vmm_check_uffd_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_uffd_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_huge_pages
tests_unit_vmm_check_huge_pages_SOURCES = tests/unit/vmm/check_huge_pages.c tests/unit/scratch.h $(FAKE_KVM)
tests_unit_vmm_check_huge_pages_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_huge_pages_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_guest_news
tests_unit_vmm_check_guest_news_SOURCES = tests/unit/vmm/check_guest_news.c
tests_unit_vmm_check_guest_news_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_guest_news_LDADD = $(VMM_UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_boot_files
tests_unit_vmm_check_boot_files_SOURCES = tests/unit/vmm/check_boot_files.c tests/unit/scratch.h $(BOOT_RIG)
tests_unit_vmm_check_boot_files_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_boot_files_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_hold_log tests/unit/vmm/check_disk_hold
tests_unit_vmm_check_hold_log_SOURCES = tests/unit/vmm/check_hold_log.c
tests_unit_vmm_check_hold_log_CPPFLAGS = $(VMM_UNIT_CPPFLAGS)
tests_unit_vmm_check_hold_log_LDADD = $(VMM_UNIT_LIBS)
tests_unit_vmm_check_disk_hold_SOURCES = tests/unit/vmm/check_disk_hold.c
tests_unit_vmm_check_disk_hold_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_disk_hold_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_byte_ring
tests_unit_vmm_check_byte_ring_SOURCES = tests/unit/vmm/check_byte_ring.c
tests_unit_vmm_check_byte_ring_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_byte_ring_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_input_queue
tests_unit_vmm_check_input_queue_SOURCES = tests/unit/vmm/check_input_queue.c
tests_unit_vmm_check_input_queue_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_input_queue_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_rot_file
tests_unit_vmm_check_rot_file_SOURCES = tests/unit/vmm/check_rot_file.c
tests_unit_vmm_check_rot_file_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_rot_file_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_sandbox
tests_unit_vmm_check_sandbox_SOURCES = tests/unit/vmm/check_sandbox.c
tests_unit_vmm_check_sandbox_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_sandbox_LDADD = libvmm_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/vmm/check_syscall_filter tests/unit/vmm/check_blk_walls
tests_unit_vmm_check_syscall_filter_SOURCES = tests/unit/vmm/check_syscall_filter.c
tests_unit_vmm_check_syscall_filter_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_syscall_filter_LDADD = libvmm_io.la $(UNIT_LIBS)
tests_unit_vmm_check_blk_walls_SOURCES = tests/unit/vmm/check_blk_walls.c
tests_unit_vmm_check_blk_walls_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_vmm_check_blk_walls_LDADD = libvmm_io.la $(UNIT_LIBS)

# Run by hand: no KVM, no network.
check_PROGRAMS += tests/bench/bench_vm_state
tests_bench_bench_vm_state_SOURCES = tests/bench/bench_vm_state.c tests/unit/vmm/fake_kvm.c tests/unit/vmm/fake_kvm.h
tests_bench_bench_vm_state_LDADD = libvmm_io.la
check_PROGRAMS += tests/bench/bench_dirty_log
tests_bench_bench_dirty_log_SOURCES = tests/bench/bench_dirty_log.c
tests_bench_bench_dirty_log_LDADD = libvmm_io.la
check_PROGRAMS += tests/bench/bench_blk
tests_bench_bench_blk_SOURCES = tests/bench/bench_blk.c tests/bench/blk_driver.c tests/bench/blk_driver.h \
	tests/bench/blk_engine.c tests/bench/blk_engine.h tests/bench/blk_vhost.c tests/bench/blk_vhost.h \
	tests/unit/vmm/fake_kvm.c tests/unit/vmm/fake_kvm.h
tests_bench_bench_blk_LDADD = libvmm_io.la

# For tests/kvm/run.
check_PROGRAMS += tests/kvm/vmmmove
tests_kvm_vmmmove_SOURCES = tests/kvm/vmmmove.c tests/kvm/vmmpair.c tests/kvm/vmmpair.h
tests_kvm_vmmmove_LDADD = libbase_io.la
check_PROGRAMS += tests/kvm/vmmtalk
tests_kvm_vmmtalk_SOURCES = tests/kvm/vmmtalk.c
tests_kvm_vmmtalk_LDADD = libbase_io.la
check_PROGRAMS += tests/kvm/copyram
tests_kvm_copyram_SOURCES = tests/kvm/copyram.c
tests_kvm_copyram_LDADD = libvmm_io.la
tests_kvm_copyram_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=gmem_track
check_PROGRAMS += tests/kvm/losefs
tests_kvm_losefs_SOURCES = tests/kvm/losefs.c
tests_kvm_losefs_LDADD = liblab_io.la
$(tests_kvm_vmmtalk_OBJECTS) $(tests_unit_vmm_check_vcpu_exit_OBJECTS): base/proto_ctl.pb-c.h
check_DATA += tests/kvm/beat.rom tests/kvm/fault.rom
CLEANFILES += tests/kvm/beat.rom tests/kvm/beat.o tests/kvm/fault.rom tests/kvm/fault.o
EXTRA_DIST += tests/kvm/beat.S tests/kvm/run tests/kvm/run_replay.sh tests/kvm/run_ft.sh tests/kvm/run_ft_shared.sh tests/kvm/run_ft_repair.sh tests/kvm/run_ft_disk.sh tests/kvm/ftlink.py tests/kvm/ft_trace.py
tests/kvm/beat.rom: tests/kvm/beat.S
	$(AM_V_GEN)$(MKDIR_P) tests/kvm && $(CC) -m32 -c -o tests/kvm/beat.o $(srcdir)/tests/kvm/beat.S && \
	objcopy -O binary -j .text tests/kvm/beat.o $@
check_DATA += tests/bench/exits.rom tests/bench/fill.rom
CLEANFILES += tests/bench/exits.rom tests/bench/exits.o tests/bench/fill.rom tests/bench/fill.o
EXTRA_DIST += tests/bench/bench_rom.S
BENCH_ROM = $(AM_V_GEN)$(MKDIR_P) tests/bench && $(CC) -m32 -c -o $(@:.rom=.o) $(srcdir)/tests/bench/bench_rom.S
tests/bench/exits.rom: tests/bench/bench_rom.S
	$(BENCH_ROM) && objcopy -O binary -j .text $(@:.rom=.o) $@
tests/bench/fill.rom: tests/bench/bench_rom.S
	$(BENCH_ROM) -DFILL && objcopy -O binary -j .text $(@:.rom=.o) $@
tests/kvm/fault.rom: tests/kvm/beat.S
	$(AM_V_GEN)$(MKDIR_P) tests/kvm && \
	$(CC) -m32 -DFAULT_AT_ONCE -c -o tests/kvm/fault.o $(srcdir)/tests/kvm/beat.S && \
	objcopy -O binary -j .text tests/kvm/fault.o $@
# end of libvmm_io.la
