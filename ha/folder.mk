# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libha_core.la

libha_core_la_CFLAGS = $(CORE_CFLAGS)
libha_core_la_SOURCES = \
	ha/ha_agent.c ha/ha_agent.h ha/ha_order.c ha/ha_update.c \
	ha/ha_coord.c \
	ha/ha_cpu.c ha/ha_cpu.h \
	ha/ha_link.c ha/ha_link.h \
	ha/ha_msg.c ha/ha_msg.h \
	ha/ha_drain.c ha/ha_drain.h ha/ha_move.c ha/ha_move.h ha/ha_op.c ha/ha_op_apply.c ha/ha_op_move.c ha/ha_op_start.c ha/ha_op_priv.h ha/ha_op_twin.c ha/ha_twin.c ha/ha_twin.h ha/ha_twinft.c ha/ha_twinft.h ha/ha_twinplace.c ha/ha_twinplace.h \
	ha/ha_drain_tell.c ha/ha_drain_tell.h \
	ha/ha_moved.c ha/ha_moved.h \
	ha/ha_pending.c ha/ha_pending.h \
	ha/ha_place.c ha/ha_place.h \
	ha/ha_policy.c ha/ha_policy.h \
	ha/ha_item.c ha/ha_item.h \
	ha/ha_state.c ha/ha_state.h \
	ha/ha_sync.c \
	ha/ha_text.c ha/ha_text.h \
	ha/ha_times.c ha/ha_times.h \
	ha/ha_types.h \
	ha/ha_view.c ha/ha_view.h

noinst_LTLIBRARIES += libha_io.la
libha_io_la_CFLAGS = $(AM_CFLAGS)
libha_io_la_SOURCES = \
	ha/ha_announce.c \
	ha/ha_copies.c ha/ha_copies.h \
	ha/ha_corosync.c ha/ha_corosync.h \
	ha/ha_cpuhost.c ha/ha_cpuhost.h \
	ha/ha_daemon.c ha/ha_daemon.h ha/ha_daemon_priv.h ha/ha_isolation.c ha/ha_suspect.c \
	ha/ha_ipc.c ha/ha_ipc_priv.h \
	ha/ha_ipc_files.c ha/ha_ipc_goal.c ha/ha_ipc_move.c ha/ha_ipc_read.c \
	ha/ha_json.c ha/ha_json_copies.c ha/ha_json_explain.c ha/ha_json_priv.h \
	ha/ha_fencelink.c ha/ha_fencelink.h \
	ha/ha_fit.c ha/ha_fit.h \
	ha/ha_leftovers.c ha/ha_leftovers.h \
	ha/ha_revert.c \
	ha/ha_path.h ha/ha_snapshot.c ha/ha_snapshot.h \
	ha/ha_storage.c ha/ha_storage.h \
	ha/ha_twincopy.c ha/ha_twincopy.h ha/ha_twinlook.c \
	ha/ha_store.c ha/ha_store.h \
	ha/ha_local.c \
	ha/ha_vmdir.c ha/ha_vmdir.h \
	ha/ha_vmm.c ha/ha_vmm.h ha/ha_vmm_priv.h \
	ha/ha_vmmfiles.c ha/ha_vmmgone.c ha/ha_vmmhold.c \
	ha/ha_vmmlink.c \
	ha/ha_vmmadopt.c ha/ha_vmmclaim.c ha/ha_vmmend.c ha/ha_vmmbuild.c ha/ha_vmmhandover.c ha/ha_vmmmove.c ha/ha_vmmmove_priv.h ha/ha_vmmpostcopy.c ha/ha_vmmrecord.c ha/ha_vmmtwin.c ha/ha_vmmtwin_priv.h ha/ha_vmmtwinclaim.c ha/ha_vmmtwindisk.c ha/ha_vmmtwinpri.c ha/ha_vmmtwinsec.c ha/ha_vmmupgrade.c \
	ha/ha_moveend.c ha/ha_moveend.h ha/ha_reach.c ha/ha_reach.h \
	ha/ha_vmmsave.c
libha_io_la_LIBADD = libha_core.la $(COROSYNC_LIBS) $(JSONC_LIBS) -lpthread
$(libha_io_la_OBJECTS): base/proto_ctl.pb-c.h

UNIT_TESTS += tests/unit/ha/check_ha_twin
tests_unit_ha_check_ha_twin_SOURCES = tests/unit/ha/check_ha_twin.c tests/unit/ha/ha_sim.h tests/unit/ha/twin_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_twin_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_twin_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ha/check_ha_twindown
tests_unit_ha_check_ha_twindown_SOURCES = tests/unit/ha/check_ha_twindown.c tests/unit/ha/ha_sim.h tests/unit/ha/twin_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_twindown_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_twindown_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ha/check_ha_copies
tests_unit_ha_check_ha_copies_SOURCES = tests/unit/ha/check_ha_copies.c tests/unit/ha/ha_sim.h tests/unit/ha/twin_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_copies_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_copies_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ha/check_ha_twinplace
tests_unit_ha_check_ha_twinplace_SOURCES = tests/unit/ha/check_ha_twinplace.c tests/unit/ha/ha_sim.h tests/unit/ha/twin_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_twinplace_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_twinplace_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ha/check_ha_postcopy
tests_unit_ha_check_ha_postcopy_SOURCES = tests/unit/ha/check_ha_postcopy.c tests/unit/ha/ha_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_postcopy_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_postcopy_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ha/check_ha_agent tests/unit/ha/check_ha_drain tests/unit/ha/check_ha_move tests/unit/ha/check_ha_start tests/unit/ha/check_ha_tell tests/unit/ha/check_ha_upgrade
tests_unit_ha_check_ha_start_SOURCES = tests/unit/ha/check_ha_start.c tests/unit/ha/ha_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_start_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_start_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
tests_unit_ha_check_ha_tell_SOURCES = tests/unit/ha/check_ha_tell.c tests/unit/ha/ha_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_tell_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_tell_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
tests_unit_ha_check_ha_drain_SOURCES = tests/unit/ha/check_ha_drain.c tests/unit/ha/ha_sim.h tests/unit/ha/move_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_drain_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_drain_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
tests_unit_ha_check_ha_move_SOURCES = tests/unit/ha/check_ha_move.c tests/unit/ha/ha_sim.h tests/unit/ha/move_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_move_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_move_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
tests_unit_ha_check_ha_upgrade_SOURCES = tests/unit/ha/check_ha_upgrade.c tests/unit/ha/ha_sim.h tests/unit/ha/move_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_upgrade_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_upgrade_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
tests_unit_ha_check_ha_agent_SOURCES = tests/unit/ha/check_ha_agent.c tests/unit/ha/ha_sim.h tests/unit/unit.h
tests_unit_ha_check_ha_agent_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_agent_LDADD = libha_core.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

# Decisions as text: tests/golden/policy/NAME/{view,expect}
check_PROGRAMS += tests/golden/policy_run
tests_golden_policy_run_SOURCES = tests/golden/policy_run.c
tests_golden_policy_run_LDADD = libha_core.la libfencing_core.la libcluster_conf_core.la libbase_io.la
GOLDEN_TESTS += tests/golden/policy.sh

UNIT_TESTS += tests/unit/ha/check_ha_store
tests_unit_ha_check_ha_store_SOURCES = tests/unit/ha/check_ha_store.c tests/unit/unit.h
tests_unit_ha_check_ha_store_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_store_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_view
tests_unit_ha_check_ha_view_SOURCES = tests/unit/ha/check_ha_view.c tests/unit/unit.h
tests_unit_ha_check_ha_view_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_view_LDADD = libha_core.la libfencing_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_msg
tests_unit_ha_check_ha_msg_SOURCES = tests/unit/ha/check_ha_msg.c tests/unit/unit.h
tests_unit_ha_check_ha_msg_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_msg_LDADD = libha_core.la libfencing_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_text
tests_unit_ha_check_ha_text_SOURCES = tests/unit/ha/check_ha_text.c tests/unit/unit.h
tests_unit_ha_check_ha_text_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_text_LDADD = libha_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_link
tests_unit_ha_check_ha_link_SOURCES = tests/unit/ha/check_ha_link.c tests/unit/unit.h
tests_unit_ha_check_ha_link_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_link_LDADD = libha_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_snapshot
tests_unit_ha_check_ha_snapshot_SOURCES = tests/unit/ha/check_ha_snapshot.c tests/unit/ha/fit_state.h tests/unit/unit.h
tests_unit_ha_check_ha_snapshot_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_snapshot_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_fit
tests_unit_ha_check_ha_fit_SOURCES = tests/unit/ha/check_ha_fit.c tests/unit/ha/fit_state.h tests/unit/unit.h
tests_unit_ha_check_ha_fit_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_fit_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_vmmhold
tests_unit_ha_check_ha_vmmhold_SOURCES = tests/unit/ha/check_ha_vmmhold.c tests/unit/ha/vmm_frame.h tests/unit/unit.h
tests_unit_ha_check_ha_vmmhold_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_vmmhold_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ha/check_ha_vmmend
tests_unit_ha_check_ha_vmmend_SOURCES = tests/unit/ha/check_ha_vmmend.c tests/unit/ha/vmm_frame.h tests/unit/unit.h
tests_unit_ha_check_ha_vmmend_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_vmmend_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_leftovers
tests_unit_ha_check_ha_leftovers_SOURCES = tests/unit/ha/check_ha_leftovers.c tests/unit/unit.h
tests_unit_ha_check_ha_leftovers_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_leftovers_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ha/check_ha_twincopy
tests_unit_ha_check_ha_twincopy_SOURCES = tests/unit/ha/check_ha_twincopy.c tests/unit/scratch.h tests/unit/unit.h
tests_unit_ha_check_ha_twincopy_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ha_check_ha_twincopy_LDADD = libha_io.la libha_core.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)
