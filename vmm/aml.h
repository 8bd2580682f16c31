/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing ACPI Machine Language (ACPI 6.4 chapter 20) and resource descriptors (6.4) into
 * a caller's buffer. A block is opened, filled, and closed with the position that opening
 * it gave; its length is put in then. What does not fit sets wr->failed. Pure; used by
 * vmm/acpi_dsdt.
 */
#pragma once

#include "base/bytes.h"

struct aml {
    struct bytes_wr wr;
};

/* Blocks. Names are four characters, with "\\" or "^" in front if wanted. */
size_t aml_scope(struct aml *a, const char *name);
size_t aml_device(struct aml *a, const char *name);
size_t aml_method(struct aml *a, const char *name, unsigned args);
size_t aml_package(struct aml *a, unsigned count);
/* ResourceTemplate() as the value of a Name(name, ...) */
size_t aml_resources(struct aml *a, const char *name);
void aml_end(struct aml *a, size_t block);
void aml_resources_end(struct aml *a, size_t block);

/* Terms */
void aml_name_int(struct aml *a, const char *name, uint64_t value);
void aml_name_str(struct aml *a, const char *name, const char *text);
void aml_name_eisa(struct aml *a, const char *name, const char *id); /* "PNP0501" */
void aml_name(struct aml *a, const char *name);                      /* a value follows */
void aml_int(struct aml *a, uint64_t value);
void aml_bytes(struct aml *a, const void *bytes, size_t len);

/* Resource descriptors, between aml_resources and its end */
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *a, unsigned irq); /* edge, active high, exclusive */
void aml_res_mem32(struct aml *a, uint32_t base, uint32_t len);
void aml_res_gsi(struct aml *a, uint32_t gsi); /* level, active high, shared */
/* Windows that a bridge passes on */
void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_mem_window(struct aml *a, uint32_t first, uint32_t last);
void aml_res_mem64_window(struct aml *a, uint64_t first, uint64_t last);
