# SPDX-License-Identifier: Apache-2.0
# libfencing_core.la is pure. Claims and proofs, then fence requests: each part appends its own files.
noinst_LTLIBRARIES += libfencing_core.la
libfencing_core_la_CFLAGS = $(CORE_CFLAGS)
libfencing_core_la_SOURCES =

# Claims and proofs ----------------------------------------------------------------------------------------------------
libfencing_core_la_SOURCES += \
	fencing/clause.h \
	fencing/claim.c fencing/claim.h fencing/claim_codec.c fencing/claim_text.c \
	fencing/proof.c fencing/proof.h

UNIT_TESTS += tests/unit/fencing/check_claim
tests_unit_fencing_check_claim_SOURCES = tests/unit/fencing/check_claim.c tests/unit/golden.h tests/unit/unit.h
tests_unit_fencing_check_claim_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_fencing_check_claim_LDADD = libfencing_core.la libbase_io.la $(UNIT_LIBS)

EXTRA_DIST += tests/golden/wire/v1/claim.bin tests/golden/wire/v1/release.bin tests/golden/wire/v1/proof.bin

UNIT_TESTS += tests/unit/fencing/check_claim_store
tests_unit_fencing_check_claim_store_SOURCES = tests/unit/fencing/check_claim_store.c tests/unit/unit.h
tests_unit_fencing_check_claim_store_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_fencing_check_claim_store_LDADD = libfencing_io.la libbase_io.la $(UNIT_LIBS)

# Fence requests -------------------------------------------------------------------------------------------------------
libfencing_core_la_SOURCES += \
	fencing/fence_req.c fencing/fence_req.h \
	fencing/fence_input.c fencing/fence_input.h \
	fencing/fence_record.c fencing/fence_record.h

UNIT_TESTS += tests/unit/fencing/check_fence_req
tests_unit_fencing_check_fence_req_SOURCES = tests/unit/fencing/check_fence_req.c tests/unit/unit.h
tests_unit_fencing_check_fence_req_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_fencing_check_fence_req_LDADD = libfencing_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/fencing/check_fence_input
tests_unit_fencing_check_fence_input_SOURCES = tests/unit/fencing/check_fence_input.c tests/unit/unit.h
tests_unit_fencing_check_fence_input_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_fencing_check_fence_input_LDADD = libfencing_core.la libbase_io.la $(UNIT_LIBS)

# Running the agents ---------------------------------------------------------------------------------------------------
noinst_LTLIBRARIES += libfencing_io.la
libfencing_io_la_CFLAGS = $(AM_CFLAGS)
libfencing_io_la_SOURCES = \
	fencing/fence_exec.c fencing/fence_exec.h \
	fencing/fence_store.c fencing/fence_store.h \
	fencing/fenced.c fencing/fenced.h fencing/fenced_int.h \
	fencing/fenced_conf.c fencing/fenced_ctl.c fencing/fenced_run.c \
	fencing/claim_store.c fencing/claim_store.h
libfencing_io_la_LIBADD = libfencing_core.la libcluster_conf_io.la
$(libfencing_io_la_OBJECTS): base/proto_ctl.pb-c.h

UNIT_TESTS += tests/unit/fencing/check_fence_exec
tests_unit_fencing_check_fence_exec_SOURCES = tests/unit/fencing/check_fence_exec.c tests/unit/unit.h
tests_unit_fencing_check_fence_exec_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_fencing_check_fence_exec_LDADD = libfencing_io.la libbase_io.la $(UNIT_LIBS)

# Asks a gemel-fenced from the shell; the lab test of fencing against ipmi_sim uses it.
check_PROGRAMS += tests/lab/fence_ask
tests_lab_fence_ask_SOURCES = tests/lab/fence_ask.c
tests_lab_fence_ask_LDADD = libbase_io.la
$(tests_lab_fence_ask_OBJECTS): base/proto_ctl.pb-c.h
dist_check_SCRIPTS += tests/lab/t_fenced_ipmi.sh

UNIT_TESTS += tests/unit/fencing/check_fence_record
tests_unit_fencing_check_fence_record_SOURCES = tests/unit/fencing/check_fence_record.c tests/unit/unit.h
tests_unit_fencing_check_fence_record_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_fencing_check_fence_record_LDADD = libfencing_io.la libbase_io.la $(UNIT_LIBS)
GOLDEN_TESTS += tests/unit/fencing/fenced_agents.sh
