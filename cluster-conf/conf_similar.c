/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster-conf/conf_similar.h"

#include <string.h>

size_t conf_similar_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    size_t row[3][CONF_SIMILAR_MAX + 1];

    if (a_len > CONF_SIMILAR_MAX || b_len > CONF_SIMILAR_MAX) {
        return CONF_SIMILAR_MAX;
    }
    for (size_t j = 0; j <= b_len; j++) {
        row[0][j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);

            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return row[a_len % 3][b_len];
}

bool conf_similar(const char *written, const char *known)
{
    size_t distance = conf_similar_distance(written, known);

    return distance <= 2 && distance < strlen(written);
}
