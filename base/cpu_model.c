/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cpu_model.h"

#include <string.h>

#include "base/cpu_names.h"
#include "base/text.h"
#include "base/units.h"

#define BIT(n) (UINT32_C(1) << (n))
/* Flags of MSR 0x10A that say "has this flaw": rsba, rrsba. */
#define FLAWS        (BIT(2) | BIT(19))
#define INVTSC       BIT(8)
#define NAME_MAX_LEN 31

/* Text that ends where there is no room. */
struct line {
    char *buf;
    size_t cap, len;
    bool full;
};

static void put(struct line *l, const char *text)
{
    size_t len = strlen(text);

    if (l->full || len >= l->cap - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->buf + l->len, text, len + 1);
    l->len += len;
}

static void put_u32(struct line *l, uint32_t v)
{
    char digits[11];
    unsigned at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    put(l, digits + at);
}

static void explain(struct cpu_model_error *err, const char *a, const char *b,
                    const char *c)
{
    struct line l = {err->text, sizeof err->text, 0, false};

    err->text[0] = '\0';
    put(&l, a);
    put(&l, b);
    put(&l, c);
}

/* Names
 * -------------------------------------------------------------------------------------
 */

const char *cpu_model_feature_name(enum cpu_word word, unsigned bit, char buf[static 32])
{
    struct line l = {buf, 32, 0, false};

    if (cpu_word_names[word].bit[bit] != NULL) {
        return cpu_word_names[word].bit[bit];
    }
    put(&l, cpu_word_names[word].place);
    put(&l, ".");
    put_u32(&l, bit);
    return buf;
}

bool cpu_model_feature(const char *name, enum cpu_word *ret_word, unsigned *ret_bit)
{
    char buf[32];

    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        for (unsigned b = 0; b < 32; b++) {
            if (strcmp(name, cpu_model_feature_name((enum cpu_word)w, b, buf)) == 0) {
                *ret_word = (enum cpu_word)w;
                *ret_bit = b;
                return true;
            }
        }
    }
    return false;
}

bool cpu_model_has(const struct cpu_model *model, const char *name)
{
    enum cpu_word word;
    unsigned bit;

    return cpu_model_feature(name, &word, &bit) && (model->word[word] & BIT(bit)) != 0;
}

/* Calls for each bit that is set, in order. */
static void put_features(struct line *l, const uint32_t word[CPU_WORD_COUNT],
                         const char *between)
{
    char buf[32];
    bool first = true;

    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        for (unsigned b = 0; b < 32; b++) {
            if ((word[w] & BIT(b)) != 0) {
                put(l, first ? "" : between);
                put(l, cpu_model_feature_name((enum cpu_word)w, b, buf));
                first = false;
            }
        }
    }
}

/* Text
 * --------------------------------------------------------------------------------------
 */

/* Fields with a number. */
static const struct {
    const char *key;
    size_t offset;
    uint32_t max;
} number[] = {
    {"family", offsetof(struct cpu_model, family), 0xF + 0xFF},
    {"model", offsetof(struct cpu_model, model), 0xFF},
    {"stepping", offsetof(struct cpu_model, stepping), 0xF},
    {"level", offsetof(struct cpu_model, level), 0xFFFF},
    {"xlevel", offsetof(struct cpu_model, xlevel), 0x8000FFFF},
    {"phys", offsetof(struct cpu_model, phys_bits), 64},
    {"linear", offsetof(struct cpu_model, linear_bits), 64},
};

static uint32_t *number_at(struct cpu_model *model, size_t i)
{
    return (uint32_t *)(void *)((char *)model + number[i].offset);
}

size_t cpu_model_print(const struct cpu_model *model, char *buf, size_t cap)
{
    struct line l = {buf, cap, 0, false};
    struct cpu_model copy = *model;

    if (cap == 0) {
        return 0;
    }
    buf[0] = '\0';
    for (char *p = copy.vendor; *p != '\0'; p++) {
        *p = *p == ' ' ? '_' : *p; /* "  Shanghai  " */
    }
    put(&l, "vendor=");
    put(&l, copy.vendor);
    for (size_t i = 0; i < ARRAY_SIZE(number); i++) {
        put(&l, " ");
        put(&l, number[i].key);
        put(&l, "=");
        put_u32(&l, *number_at(&copy, i));
    }
    put(&l, " features=");
    put_features(&l, model->word, ",");
    return l.full ? 0 : l.len;
}

/* The next word of the text up to one of `ends`; NULL: too long. Moves *text behind it.
 */
static const char *take(const char **text, const char *ends, char *buf, size_t cap)
{
    size_t len = strcspn(*text, ends);

    if (len >= cap) {
        return NULL;
    }
    memcpy(buf, *text, len);
    buf[len] = '\0';
    *text += len;
    return buf;
}

static bool parse_vendor(const char *value, struct cpu_model *model,
                         struct cpu_model_error *err)
{
    size_t len = strlen(value);

    for (size_t i = 0; i < len; i++) {
        if (value[i] < '!' || value[i] > '~') {
            len = 0;
        }
    }
    if (len == 0 || len > CPU_VENDOR_LEN) {
        explain(err, "vendor: 1 to 12 printable characters, such as GenuineIntel", "",
                "");
        return false;
    }
    for (size_t i = 0; i <= len; i++) {
        model->vendor[i] = value[i] == '_' ? ' ' : value[i];
    }
    return true;
}

static bool parse_features(const char **text, struct cpu_model *model,
                           struct cpu_model_error *err)
{
    char name[NAME_MAX_LEN + 1];
    enum cpu_word word;
    unsigned bit;

    while (**text != '\0' && **text != ' ' && **text != '\n') {
        if (take(text, ", \n", name, sizeof name) == NULL) {
            explain(err, "features: a name of more than 31 characters", "", "");
            return false;
        }
        if (!cpu_model_feature(name, &word, &bit)) {
            explain(err, "features: '", name,
                    "' is not a feature that this version knows");
            return false;
        }
        if ((model->word[word] & BIT(bit)) != 0) {
            explain(err, "features: ", name, " stands there twice");
            return false;
        }
        model->word[word] |= BIT(bit);
        if (**text == ',') {
            (*text)++;
            if (**text == '\0' || **text == ' ' || **text == '\n') {
                explain(err, "features: nothing after the last comma", "", "");
                return false;
            }
        }
    }
    return true;
}

static bool parse_number(const char *key, const char *value, struct cpu_model *model,
                         size_t *ret_index, struct cpu_model_error *err)
{
    uint64_t v;

    for (size_t i = 0; i < ARRAY_SIZE(number); i++) {
        if (strcmp(key, number[i].key) == 0) {
            if (!text_u64(value, 0, number[i].max, &v)) {
                explain(err, key, ": not a number in its range: ", value);
                return false;
            }
            *number_at(model, i) = (uint32_t)v;
            *ret_index = i;
            return true;
        }
    }
    explain(err, "'", key, "' is no part of a CPU model");
    return false;
}

bool cpu_model_parse(const char *text, struct cpu_model *ret_model,
                     struct cpu_model_error *err)
{
    const size_t vendor = ARRAY_SIZE(number), features = ARRAY_SIZE(number) + 1;
    struct cpu_model model = {0};
    uint32_t seen = 0;

    for (;;) {
        char key[16], value[32];
        size_t index;

        text += strspn(text, " ");
        if (*text == '\0' || (*text == '\n' && text[1] == '\0')) {
            break;
        }
        if (take(&text, "= \n", key, sizeof key) == NULL || *text != '=') {
            explain(err, "not of the form key=value key=value features=NAME,NAME...", "",
                    "");
            return false;
        }
        text++;
        if (strcmp(key, "features") == 0) {
            index = features;
            if ((seen & BIT(index)) == 0 && !parse_features(&text, &model, err)) {
                return false;
            }
        } else if (take(&text, " \n", value, sizeof value) == NULL) {
            explain(err, key, ": its value is too long", "");
            return false;
        } else if (strcmp(key, "vendor") == 0) {
            index = vendor;
            if (!parse_vendor(value, &model, err)) {
                return false;
            }
        } else if (!parse_number(key, value, &model, &index, err)) {
            return false;
        }
        if ((seen & BIT(index)) != 0) {
            explain(err, key, " stands there twice", "");
            return false;
        }
        seen |= BIT(index);
    }
    if ((seen & BIT(features)) == 0 || (seen & BIT(vendor)) == 0) {
        explain(err, (seen & BIT(vendor)) == 0 ? "vendor=" : "features=", " is missing",
                "");
        return false;
    }
    *ret_model = model;
    return true;
}

bool cpu_model_equal(const struct cpu_model *a, const struct cpu_model *b)
{
    bool equal = strcmp(a->vendor, b->vendor) == 0 &&
                 memcmp(a->word, b->word, sizeof a->word) == 0;

    for (size_t i = 0; i < ARRAY_SIZE(number); i++) {
        struct cpu_model x = *a, y = *b;

        equal = equal && *number_at(&x, i) == *number_at(&y, i);
    }
    return equal;
}

/* Models against each other
 * ----------------------------------------------------------------- */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Flags of flaws mean something only where the MSR is told of. */
static bool tells_flaws(const struct cpu_model *m)
{
    return (m->word[CPU_WORD_7_EDX] & BIT(29)) != 0;
}

bool cpu_model_common(const struct cpu_model *const *host, unsigned count,
                      struct cpu_model *ret_model, struct cpu_model_error *err)
{
    struct cpu_model m;
    uint32_t flaws = 0;

    if (count == 0) {
        explain(err, "no node has told its CPU model", "", "");
        return false;
    }
    m = *host[0];
    for (unsigned i = 0; i < count; i++) {
        const struct cpu_model *h = host[i];

        if (strcmp(h->vendor, m.vendor) != 0) {
            explain(err, "there is nothing in common between processors of ", m.vendor,
                    strcmp(h->vendor, "GenuineIntel") == 0 ? " and GenuineIntel"
                                                           : " and of another vendor");
            return false;
        }
        if (h->family < m.family || (h->family == m.family && h->model < m.model) ||
            (h->family == m.family && h->model == m.model && h->stepping < m.stepping)) {
            m.family = h->family;
            m.model = h->model;
            m.stepping = h->stepping;
        }
        m.level = least(m.level, h->level);
        m.xlevel = least(m.xlevel, h->xlevel);
        m.phys_bits = least(m.phys_bits, h->phys_bits);
        m.linear_bits = least(m.linear_bits, h->linear_bits);
        for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
            m.word[w] &= h->word[w];
        }
        flaws |= h->word[CPU_WORD_ARCH_CAPS_LO] & FLAWS;
    }
    m.word[CPU_WORD_ARCH_CAPS_LO] |= tells_flaws(&m) ? flaws : 0;
    m.word[CPU_WORD_80000007_EDX] &= ~INVTSC;
    *ret_model = m;
    return true;
}

static unsigned popcount(const uint32_t word[CPU_WORD_COUNT])
{
    unsigned n = 0;

    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        n += (unsigned)__builtin_popcount(word[w]);
    }
    return n;
}

/* One more reason, if "and N more" still fits behind it. */
static unsigned put_reason(struct line *l, const char *const part[5])
{
    enum { ROOM = sizeof ", and 999 features" };
    struct line one = *l;

    one.cap = l->cap > ROOM ? l->cap - ROOM : 0;
    one.full = one.len >= one.cap;
    put(&one, one.len == 0 ? "" : ", ");
    for (unsigned i = 0; i < 5; i++) {
        put(&one, part[i]);
    }
    if (l->full || one.full) { /* nor anything after it */
        l->buf[l->len < l->cap ? l->len : 0] = '\0';
        l->full = true;
        return 0;
    }
    l->len = one.len;
    return 1;
}

static unsigned put_bits(struct line *l, const char *kind, uint32_t want, uint32_t have)
{
    char a[12] = "", b[12] = "";
    struct line la = {a, sizeof a, 0, false}, lb = {b, sizeof b, 0, false};

    put_u32(&la, want);
    put_u32(&lb, have);
    return put_reason(l, (const char *const[5]){a, kind, " (this host: ", b, ")"});
}

void cpu_model_lockstep(struct cpu_model *model)
{
    /* Without what cpuid_lockstep names: clocks, interrupts, randomness, power. */
    static const uint32_t shown[CPU_WORD_COUNT] = {
        [CPU_WORD_1_EDX] = ~(BIT(4) | BIT(7) | BIT(9) | BIT(14) | BIT(21) | BIT(22) |
                             BIT(28) | BIT(29) | BIT(31)),
        [CPU_WORD_1_ECX] = ~(BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) |
                             BIT(8) | BIT(10) | BIT(11) | BIT(15) | BIT(17) | BIT(18) |
                             BIT(21) | BIT(24) | BIT(30) | BIT(31)),
        [CPU_WORD_7_EBX] = BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(19) |
                           BIT(20) | BIT(23) | BIT(24) | BIT(29),
        [CPU_WORD_7_ECX] = BIT(2) | BIT(8) | BIT(9) | BIT(10),
        [CPU_WORD_7_EDX] = BIT(4),
        [CPU_WORD_80000001_ECX] =
            BIT(0) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(16) | BIT(21),
        [CPU_WORD_80000001_EDX] = ~(BIT(4) | BIT(7) | BIT(9) | BIT(14) | BIT(27)),
    };

    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        model->word[w] &= shown[w];
    }
}

unsigned cpu_model_missing(const struct cpu_model *model, const struct cpu_model *host,
                           char *buf, size_t cap)
{
    struct line l = {buf, cap, 0, false};
    uint32_t word[CPU_WORD_COUNT];
    unsigned total, shown = 0;
    bool vendor = strcmp(model->vendor, host->vendor) != 0;
    bool phys = model->phys_bits > host->phys_bits;
    bool linear = model->linear_bits > host->linear_bits;
    char name[32];

    if (cap != 0) {
        buf[0] = '\0';
    }
    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        word[w] = model->word[w] & ~host->word[w];
    }
    word[CPU_WORD_ARCH_CAPS_LO] &= ~FLAWS;
    total = popcount(word) + vendor + phys + linear;
    if (vendor) {
        shown +=
            put_reason(&l, (const char *const[5]){"vendor ", model->vendor,
                                                  " (this host: ", host->vendor, ")"});
    }
    if (phys) {
        shown +=
            put_bits(&l, " bits of physical address", model->phys_bits, host->phys_bits);
    }
    if (linear) {
        shown += put_bits(&l, " bits of linear address", model->linear_bits,
                          host->linear_bits);
    }
    for (unsigned w = 0; cap != 0 && w < CPU_WORD_COUNT; w++) {
        for (unsigned b = 0; b < 32; b++) {
            if ((word[w] & BIT(b)) != 0) {
                shown +=
                    put_reason(&l, (const char *const[5]){
                                       cpu_model_feature_name((enum cpu_word)w, b, name),
                                       "", "", "", ""});
            }
        }
    }
    if (shown < total && cap != 0) {
        l.full = false;
        put(&l, shown == 0 ? "" : ", and ");
        put_u32(&l, total - shown);
        put(&l, shown == 0 ? " features" : " more");
    }
    return total;
}
