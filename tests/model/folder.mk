# SPDX-License-Identifier: Apache-2.0
# The model builds fencing/claim.c and fencing/proof.c again, with every clause removable.
MODEL_TESTS += tests/model/check_claims
tests_model_check_claims_SOURCES = \
	tests/model/check_claims.c tests/model/model.h tests/model/model_gen.h \
	tests/model/model_canon.c tests/model/model_claim.c tests/model/model_explore.c tests/model/model_rules.c \
	tests/model/model_step.c tests/model/model_text.c tests/model/model_twin.c tests/model/model_world.c \
	fencing/claim.c fencing/claim_text.c fencing/proof.c
tests_model_check_claims_CPPFLAGS = $(AM_CPPFLAGS) -DCLAIM_MUTANTS
tests_model_check_claims_CFLAGS = $(AM_CFLAGS) -O2
tests_model_check_claims_LDADD = libbase_io.la
EXTRA_DIST += tests/model/README.md
