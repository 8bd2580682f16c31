# SPDX-License-Identifier: Apache-2.0
# Style as a test. Each script can be broken: see the comments there for what it looks at.
STYLE_TESTS += \
	ci/style/layers.sh \
	ci/style/purity.sh \
	ci/style/broken.sh \
	ci/style/headers.sh \
	ci/style/format.sh \
	ci/style/banned.sh
EXTRA_DIST += ci/style/lib.sh ci/packages.txt ci/deps
