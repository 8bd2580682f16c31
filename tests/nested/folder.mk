# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += tests/nested/check tests/nested/cpu_hosts tests/nested/run tests/nested/images.sh tests/nested/init.sh tests/nested/cases.sh \
	tests/nested/guest_init.sh tests/nested/watchdog_init.sh tests/nested/make_disk.py tests/nested/README.md
