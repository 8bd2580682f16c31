# SPDX-License-Identifier: Apache-2.0

# gemel-vmm
sbin_PROGRAMS += gemel-vmm
gemel_vmm_SOURCES = \
	programs/gemel_vmm.c \
	programs/gemel_vmm_opts.c programs/gemel_vmm_opts.h \
	programs/gemel_vmm_probe.c programs/gemel_vmm_probe.h \
	programs/gemel_vmm_move.c programs/gemel_vmm_move.h \
	programs/gemel_vmm_twin.c programs/gemel_vmm_twin.h \
	programs/gemel_vmm_walls.c programs/gemel_vmm_walls.h
gemel_vmm_LDADD = libft_io.la libft_core.la libmigrate_io.la libvmm_io.la libvmm_core.la libbase_io.la
$(gemel_vmm_OBJECTS): base/proto_ctl.pb-c.h
dist_man8_MANS += doc/gemel-vmm.8
# end of gemel-vmm
# gemel-fenced ---------------------------------------------------------------------------------------------------------
sbin_PROGRAMS += gemel-fenced
gemel_fenced_SOURCES = programs/gemel_fenced.c
gemel_fenced_LDADD = libfencing_io.la libbase_io.la

# gemel
CLI_SOURCES = \
	programs/cli.h \
	programs/cli_agent.c programs/cli_agent.h \
	programs/cli_console.c \
	programs/cli_help.c \
	programs/cli_init.c \
	programs/cli_local.c programs/cli_local.h \
	programs/cli_parse.c \
	programs/cli_render.c \
	programs/cli_table.c programs/cli_table.h \
	programs/cli_verbs.c
bin_PROGRAMS += gemel
gemel_SOURCES = programs/gemel.c $(CLI_SOURCES)
gemel_CPPFLAGS = $(AM_CPPFLAGS) -DGEMEL_BUILD_VERSION='"$(PACKAGE_VERSION)"'
gemel_LDADD = libcluster_conf_io.la libbase_io.la $(JSONC_LIBS)
$(gemel_OBJECTS): base/proto_ctl.pb-c.h

# An agent that answers from files.
check_PROGRAMS += tests/fake/fake_gemeld
tests_fake_fake_gemeld_SOURCES = tests/fake/fake_gemeld.c tests/fake/fake_cli_server.c tests/fake/fake_cli_server.h
tests_fake_fake_gemeld_LDADD = libbase_io.la $(QB_LIBS)
$(tests_fake_fake_gemeld_OBJECTS): base/proto_ctl.pb-c.h
dist_check_SCRIPTS += tests/lab/t_cli.sh
GOLDEN_TESTS += tests/golden/cli/run.sh
if FUZZ
FUZZ_TARGETS += tests/fuzz/fuzz_cli
tests_fuzz_fuzz_cli_SOURCES = tests/fuzz/fuzz_cli.c tests/fuzz/fuzz.h programs/cli_render.c programs/cli_table.c
tests_fuzz_fuzz_cli_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_cli_LDADD = libbase_io.la $(JSONC_LIBS)
endif
dist_man8_MANS += doc/gemel.8
EXTRA_DIST += doc/cli-json.md doc/decisions.md doc/operator-guide.md
EXTRA_DIST += tests/golden/cli/files tests/golden/cli/replies \
	tests/golden/cli/actions.test tests/golden/cli/config.test tests/golden/cli/help.test tests/golden/cli/init.test \
	tests/golden/cli/man.test tests/golden/cli/render.test tests/golden/cli/usage.test
# end of gemel

# gemeld, the agent ---------------------------------------------------------------------------------------------------
sbin_PROGRAMS += gemeld
gemeld_SOURCES = programs/gemeld.c
gemeld_LDADD = libha_io.la libfencing_io.la libfencing_core.la libcluster_conf_io.la libbase_io.la

# systemd units -------------------------------------------------------------------------------------------------------
systemdunitdir = $(prefix)/lib/systemd/system
nodist_systemdunit_DATA = programs/systemd/gemeld.service programs/systemd/gemel-fenced.service
EXTRA_DIST += programs/systemd/gemeld.service.in programs/systemd/gemel-fenced.service.in
CLEANFILES += programs/systemd/gemeld.service programs/systemd/gemel-fenced.service
programs/systemd/%.service: programs/systemd/%.service.in
	$(AM_V_GEN)$(MKDIR_P) programs/systemd && sed 's|@sbindir[@]|$(sbindir)|g' $< >$@
