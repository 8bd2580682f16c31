# SPDX-License-Identifier: Apache-2.0
# libbase_core.la is pure; libbase_io.la is the only user of libqb, sockets, files and clocks.
noinst_LTLIBRARIES += libbase_core.la libbase_io.la
