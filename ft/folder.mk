# SPDX-License-Identifier: Apache-2.0
# libft_core.la is pure.
noinst_LTLIBRARIES += libft_core.la
libft_core_la_CFLAGS = $(CORE_CFLAGS)
libft_core_la_SOURCES = \
	ft/ft_act.h \
	ft/ft_ahead.c ft/ft_ahead.h \
	ft/ft_alike.c ft/ft_alike.h \
	ft/ft_commit.c ft/ft_commit.h \
	ft/ft_primary.c ft/ft_primary.h \
	ft/ft_secondary.c ft/ft_secondary.h

FT_UNIT_LIBS = libft_core.la libmigrate_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_states
tests_unit_ft_check_ft_states_SOURCES = tests/unit/ft/check_ft_states.c tests/unit/unit.h tests/unit/table_doc.h
tests_unit_ft_check_ft_states_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_states_LDADD = $(FT_UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_model
tests_unit_ft_check_ft_model_SOURCES = tests/unit/ft/check_ft_model.c tests/unit/unit.h
tests_unit_ft_check_ft_model_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_model_LDADD = $(FT_UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_ahead
tests_unit_ft_check_ft_ahead_SOURCES = tests/unit/ft/check_ft_ahead.c tests/unit/unit.h tests/unit/migrate/mig_rand.h
tests_unit_ft_check_ft_ahead_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_ahead_LDADD = $(FT_UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_alike
tests_unit_ft_check_ft_alike_SOURCES = tests/unit/ft/check_ft_alike.c tests/unit/unit.h
tests_unit_ft_check_ft_alike_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_alike_LDADD = $(FT_UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_stage
tests_unit_ft_check_ft_stage_SOURCES = tests/unit/ft/check_ft_stage.c tests/unit/unit.h tests/unit/migrate/mig_rand.h
tests_unit_ft_check_ft_stage_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_stage_LDADD = libft_io.la libft_core.la libmigrate_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_commit
tests_unit_ft_check_ft_commit_SOURCES = tests/unit/ft/check_ft_commit.c tests/unit/unit.h tests/unit/table_doc.h
tests_unit_ft_check_ft_commit_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_commit_LDADD = $(FT_UNIT_LIBS)

# Recordings -------------------------------------------------------------------------------------------------------------
# The log and its sums; a recording as a file.
libft_core_la_SOURCES += \
	ft/ft_log.c ft/ft_log.h \
	ft/ft_pages.c ft/ft_pages.h \
	ft/ft_pos.h \
	ft/ft_sum.c ft/ft_sum.h \
	ft/ft_wire.c ft/ft_wire.h
noinst_LTLIBRARIES += libft_io.la
libft_io_la_CFLAGS = $(AM_CFLAGS)
libft_io_la_SOURCES = \
	ft/ft_tape.h ft/ft_tape_priv.h \
	ft/ft_session.c ft/ft_session.h ft/ft_session_priv.h \
	ft/ft_session_barrier.c ft/ft_session_next.c ft/ft_session_pri.c \
	ft/ft_session_repair.c ft/ft_session_sec.c \
	ft/ft_epoch_ahead.c ft/ft_epoch_pri.c ft/ft_epoch_priv.h ft/ft_epoch_sec.c \
	ft/ft_stage.c ft/ft_stage.h \
	ft/ft_tape_conf.c \
	ft/ft_tape_play.c \
	ft/ft_tape_record.c
libft_io_la_LIBADD = libft_core.la libmigrate_core.la libvmm_io.la

EXTRA_DIST += tests/golden/wire/v1/ft_log.bin tests/golden/wire/v1/ft_repair.bin
EXTRA_DIST += tests/golden/wire/v1/ft_hashes.bin
UNIT_TESTS += tests/unit/ft/check_ft_hashes
tests_unit_ft_check_ft_hashes_SOURCES = tests/unit/ft/check_ft_hashes.c tests/unit/unit.h tests/unit/golden.h
tests_unit_ft_check_ft_hashes_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_hashes_LDADD = libft_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_log
tests_unit_ft_check_ft_log_SOURCES = tests/unit/ft/check_ft_log.c tests/unit/unit.h tests/unit/golden.h
tests_unit_ft_check_ft_log_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_log_LDADD = libft_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/ft/check_ft_pages
tests_unit_ft_check_ft_pages_SOURCES = tests/unit/ft/check_ft_pages.c tests/unit/unit.h
tests_unit_ft_check_ft_pages_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_pages_LDADD = $(FT_UNIT_LIBS)

EXTRA_DIST += tests/golden/wire/v1/ft_wire.bin
UNIT_TESTS += tests/unit/ft/check_ft_wire
tests_unit_ft_check_ft_wire_SOURCES = tests/unit/ft/check_ft_wire.c tests/unit/unit.h tests/unit/golden.h
tests_unit_ft_check_ft_wire_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_wire_LDADD = libft_core.la libbase_io.la $(UNIT_LIBS)

check_PROGRAMS += tests/kvm/taped
tests_kvm_taped_SOURCES = tests/kvm/taped.c
tests_kvm_taped_LDADD = libft_core.la libvmm_core.la libbase_io.la
check_PROGRAMS += tests/kvm/steps
tests_kvm_steps_SOURCES = tests/kvm/steps.c
tests_kvm_steps_LDADD = libvmm_io.la
UNIT_TESTS += tests/unit/ft/check_ft_sim
tests_unit_ft_check_ft_sim_SOURCES = tests/unit/ft/check_ft_sim.c tests/unit/ft/ft_sim.h tests/unit/ft/ft_sim_primary.c tests/unit/ft/ft_sim_secondary.c \
	tests/unit/ft/ft_sim_world.c tests/unit/unit.h tests/unit/migrate/mig_rand.h
tests_unit_ft_check_ft_sim_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_sim_LDADD = $(FT_UNIT_LIBS)
UNIT_TESTS += tests/unit/ft/check_ft_tape
tests_unit_ft_check_ft_tape_SOURCES = tests/unit/ft/check_ft_tape.c tests/unit/unit.h tests/unit/temp_path.h
tests_unit_ft_check_ft_tape_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_tape_LDADD = libft_io.la libft_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)
# Both ends of a session around an engine that is none; fdatasync is counted.
UNIT_TESTS += tests/unit/ft/check_ft_session
tests_unit_ft_check_ft_session_SOURCES = tests/unit/ft/check_ft_session.c tests/unit/ft/fake_engine.c tests/unit/ft/fake_engine.h tests/unit/unit.h
tests_unit_ft_check_ft_session_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ft_check_ft_session_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=fdatasync
tests_unit_ft_check_ft_session_LDADD = libft_io.la libmigrate_io.la libmigrate_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)
check_PROGRAMS += tests/kvm/vmmft
tests_kvm_vmmft_SOURCES = tests/kvm/vmmft.c tests/kvm/vmmpair.c tests/kvm/vmmpair.h
tests_kvm_vmmft_LDADD = libbase_io.la
