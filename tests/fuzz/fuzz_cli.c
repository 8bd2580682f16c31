/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the agent's JSON: the renderers of the command line end, and no control
 * byte but a newline reaches the terminal. The first byte chooses the verb.
 */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "programs/cli.h"
#include "tests/fuzz/fuzz.h"

void cli_complain(const char *format, ...)
{
    BUG_ON(format[0] == '\0');
}

FUZZ_ONE(data, len)
{
    static enum cli_exit (*const render[])(const struct cli_call *, const char *,
                                           FILE *) = {
        cli_render_status, cli_render_nodes,   cli_render_vms,        cli_render_vm,
        cli_render_events, cli_render_explain, cli_render_definition,
    };
    struct cli_call call = {0};
    char *json, *text = NULL;
    size_t text_len;
    FILE *out;

    if (len == 0) {
        return 0;
    }
    json = malloc(len);
    out = open_memstream(&text, &text_len);
    BUG_ON(json == NULL || out == NULL);
    memcpy(json, data + 1, len - 1);
    json[len - 1] = '\0';
    call.is_set[CLI_OPT_YAML] = (data[0] & 0x80) != 0;
    render[(data[0] & 0x7f) % ARRAY_SIZE(render)](&call, json, out);
    fclose(out);
    for (size_t i = 0; i < text_len; i++) {
        BUG_ON(((unsigned char)text[i] < 0x20 && text[i] != '\n') || text[i] == 0x7f);
    }
    free(text);
    free(json);
    return 0;
}
