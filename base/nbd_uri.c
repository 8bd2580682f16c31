/* SPDX-License-Identifier: Apache-2.0 */
#include "base/nbd_uri.h"

#include <string.h>

#include "base/text.h"

#define NBD_PORT 10809 /* IANA: nbd */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of `text` up to `end` without their %XX; false: too long, or a NUL in it. */
static bool unescape(char *dst, size_t cap, const char *text, const char *end)
{
    size_t len = 0;

    while (text < end) {
        int c = (unsigned char)*text++;

        if (c == '%') {
            int high = text < end ? hex_digit(text[0]) : -1;
            int low = text + 1 < end ? hex_digit(text[1]) : -1;

            if (high < 0 || low < 0) {
                return false;
            }
            c = high * 16 + low;
            text += 2;
        }
        if (c == 0 || len + 1 >= cap) {
            return false;
        }
        dst[len++] = (char)c;
    }
    dst[len] = '\0';
    return true;
}

static const char *take_export(struct nbd_uri *uri, const char *text, const char *end)
{
    return unescape(uri->export_name, sizeof uri->export_name, text, end)
               ? NULL
               : "the export's name is longer than 255 bytes or has a bad % in it";
}

static const char *parse_unix(struct nbd_uri *uri, const char *text)
{
    const char *query = strchr(text, '?');

    if (!query || strncmp(query + 1, "socket=", 7) != 0 || strchr(query, '&') ||
        strchr(query, '#')) {
        return "a Unix socket is written nbd+unix:///EXPORT?socket=/PATH";
    }
    uri->is_unix = true;
    if (!unescape(uri->path, sizeof uri->path, query + 8, query + strlen(query)) ||
        uri->path[0] != '/') {
        return "socket= needs an absolute path of at most 107 bytes";
    }
    if (*text == '/') {
        text++;
    } else if (text != query) {
        return "a Unix socket has no host: write nbd+unix:///EXPORT?socket=/PATH";
    }
    return take_export(uri, text, query);
}

/* Only what could be one: inet_pton judges it when it is used. */
static bool address_like(const char *text)
{
    bool six = strchr(text, ':') != NULL;

    return text[0] != '\0' &&
           text[strspn(text, six ? "0123456789abcdefABCDEF:." : "0123456789.")] == '\0';
}

static const char *parse_port(struct nbd_uri *uri, const char *text, const char *end)
{
    char digits[8];
    uint64_t port = NBD_PORT;

    if (text < end) {
        size_t len = (size_t)(end - text) - 1;

        if (*text != ':' || len >= sizeof digits) {
            return "after the address comes :PORT or /EXPORT";
        }
        memcpy(digits, text + 1, len);
        digits[len] = '\0';
        if (!text_u64(digits, 1, UINT16_MAX, &port)) {
            return "the port is a number from 1 to 65535";
        }
    }
    uri->port = (uint16_t)port;
    return NULL;
}

static const char *parse_tcp(struct nbd_uri *uri, const char *text)
{
    const char *end = text + strcspn(text, "/"), *host_end;
    const char *why;

    if (strpbrk(text, "?#@")) {
        return "only nbd://ADDRESS:PORT/EXPORT is known: no user, no query, no fragment";
    }
    if (*text == '[') {
        text++;
        host_end = text + strcspn(text, "]");
        if (*host_end != ']') {
            return "an IPv6 address stands in brackets: nbd://[fd00::1]/EXPORT";
        }
    } else {
        host_end = text + strcspn(text, ":/");
    }
    if ((size_t)(host_end - text) >= sizeof uri->address) {
        return "the address is too long";
    }
    memcpy(uri->address, text, (size_t)(host_end - text));
    if (!address_like(uri->address)) {
        return "the host must be an IPv4 address, or an IPv6 address in brackets (a name "
               "service may be away when the VM has to be restarted)";
    }
    if (*host_end == ']') {
        host_end++;
    }
    why = parse_port(uri, host_end, end);
    return why ? why : take_export(uri, *end ? end + 1 : end, text + strlen(text));
}

const char *nbd_uri_parse(const char *text, struct nbd_uri *ret_uri)
{
    static const char tcp[] = "nbd://", local[] = "nbd+unix://";
    struct nbd_uri uri = {.is_unix = false};
    const char *why;

    if (strncmp(text, "nbds", 4) == 0) {
        return "NBD over TLS is not there; use a network of its own, or a tunnel, and "
               "nbd://";
    }
    if (strncmp(text, local, sizeof local - 1) == 0) {
        why = parse_unix(&uri, text + sizeof local - 1);
    } else if (strncmp(text, tcp, sizeof tcp - 1) == 0) {
        why = parse_tcp(&uri, text + sizeof tcp - 1);
    } else {
        why = "an NBD disk is nbd://ADDRESS:PORT/EXPORT or "
              "nbd+unix:///EXPORT?socket=/PATH";
    }
    if (!why) {
        *ret_uri = uri;
    }
    return why;
}
