/* Short texts without the C library: paths, numbers, and the lines of an announcement. A text that is too long has `full` set. */
#ifndef ATF_AGENT_TEXT_H
#define ATF_AGENT_TEXT_H
#include <stddef.h>
#include <stdint.h>

typedef struct atf_text {
    char *start;
    size_t n, room; /* room: a zero byte included */
    int full;
} atf_text;

static inline atf_text atf_text_in(char *place, size_t room)
{
    place[0] = 0;
    return (atf_text){place, 0, room, 0};
}

static inline void atf_text_char(atf_text *t, char c)
{
    if (t->n + 1 >= t->room) {
        t->full = 1;
        return;
    }
    t->start[t->n++] = c;
    t->start[t->n] = 0;
}

static inline void atf_text_put(atf_text *t, const char *s)
{
    while (*s && !t->full) atf_text_char(t, *s++);
}

static inline void atf_text_number(atf_text *t, uint64_t v)
{
    char digits[20];
    int n = 0;
    do digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n) atf_text_char(t, digits[--n]);
}

/* A value as runtime files have it: no line break in it. */
static inline void atf_text_value(atf_text *t, const char *s, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (s[i] == '\n') atf_text_put(t, "%0A");
        else if (s[i] == '%') atf_text_put(t, "%25");
        else atf_text_char(t, s[i] ? s[i] : '\x1f'); /* between arguments */
    }
}
#endif
