# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += tests/bench/ft tests/bench/ft_cluster tests/bench/ft_sides.py tests/bench/mig_chan tests/bench/migrate tests/bench/upgrade tests/bench/migrate_sides.py tests/bench/migrate_link.py tests/bench/vmm tests/bench/vmm_report.py tests/bench/vmm_sides.py \
	tests/bench/dirty_log tests/bench/record tests/bench/run tests/bench/failover tests/bench/failover_runs.sh \
	tests/bench/failover.jq tests/bench/ocf_vm ci/packages-bench.txt
GOLDEN_TESTS += tests/golden/bench.sh
EXTRA_DIST += tests/golden/bench
