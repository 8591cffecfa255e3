/* See policy.h. */
#include "policy.h"
#include "msgpack_peek.h"
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- functions of a process */
static uint32_t place(const atf_functions *f, uint64_t id)
{
    uint64_t h = id * 0x9E3779B97F4A7C15u;
    uint32_t i = (uint32_t)(h >> 32) & (f->size - 1);
    while (f->table[i].id && f->table[i].id != id) i = (i + 1) & (f->size - 1);
    return i;
}

void atf_functions_clear(atf_functions *f)
{
    free(f->table);
    memset(f, 0, sizeof *f);
}

static int grow(atf_functions *f)
{
    atf_functions larger = {NULL, f->size ? 2 * f->size : 1024, f->used};
    larger.table = calloc(larger.size, sizeof *larger.table);
    if (!larger.table) return 0;
    for (uint32_t i = 0; i < f->size; i++)
        if (f->table[i].id) larger.table[place(&larger, f->table[i].id)] = f->table[i];
    free(f->table);
    *f = larger;
    return 1;
}

atf_named *atf_functions_at(atf_functions *f, uint64_t id)
{
    if (!id) return NULL; /* no function has it */
    if (4 * f->used >= 3 * f->size && !grow(f)) return NULL;
    atf_named *n = &f->table[place(f, id)];
    if (!n->id) {
        n->id = id;
        n->rules = ATF_UNNAMED;
        f->used++;
    }
    return n;
}

/* ---------------------------------------------------------------- rules */
static int is_type(const char *wanted, const atf_detail_record *detail)
{
    if (wanted[0] == '*' && !wanted[1]) return 1;
    if (!detail || detail->event_type != ATF_D_PY_EXCEPTION) return 0;
    const uint8_t *from = (const uint8_t *)(detail + 1), *end = (const uint8_t *)detail + detail->total_length;
    uint64_t bytes, n = strlen(wanted);
    const char *type = atf_peek_text(atf_peek_key(from, end, "type"), end, &bytes);
    if (!type || bytes < n || memcmp(type + bytes - n, wanted, n) != 0) return 0;
    return bytes == n || type[bytes - n - 1] == '.';
}

/* An event of the user's own whose attribute of this name is true. */
static int says(const atf_detail_record *detail, const char *name)
{
    if (!detail || detail->event_type != ATF_D_EVENT) return 0;
    const uint8_t *from = (const uint8_t *)(detail + 1), *end = (const uint8_t *)detail + detail->total_length;
    const uint8_t *value = atf_peek_key(atf_peek_key(from, end, "attributes"), end, name);
    return value && *value == 0xC3;
}

static int other(const atf_rules *p, const atf_event *e, const atf_detail_record *detail)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const atf_rule *r = &p->rules[i];
        if (r->kind == ATF_RULE_EXCEPTION && e->event_kind == ATF_EXCEPTION && is_type(r->text, detail)) return (int)i;
        if (r->kind == ATF_RULE_MARK && e->event_kind == ATF_INSTANT && says(detail, "mark")) return (int)i;
        if (r->kind == ATF_RULE_CRASH && e->event_kind == ATF_INSTANT && says(detail, "crash")) return (int)i;
    }
    return -1;
}

/* Calls are closed by depth: those that are deeper were left without a record. */
static int ended(const atf_rules *p, const atf_functions *f, atf_watch *w, const atf_event *e)
{
    while (w->n && w->calls[w->n - 1].depth > e->call_depth) w->n--;
    if (!w->n || w->calls[w->n - 1].depth != e->call_depth || w->calls[w->n - 1].id != e->function_id) return -1;
    uint64_t took = e->timestamp_ns - w->calls[--w->n].begun_ns;
    const atf_named *n = &f->table[place(f, e->function_id)];
    for (uint32_t i = 0; i < p->n; i++)
        if (p->rules[i].kind == ATF_RULE_DURATION && n->rules >> i & 1 && took > p->rules[i].threshold_ns) return (int)i;
    return -1;
}

int atf_rules_look(const atf_rules *p, atf_functions *f, atf_watch *w, const atf_event *e, const atf_detail_record *detail)
{
    if (p->named && e->event_kind == ATF_CALL) {
        atf_named *n = atf_functions_at(f, e->function_id);
        if (!n) return -1;
        if (n->rules & ATF_UNNAMED) {
            if (!n->first_ns) n->first_ns = e->timestamp_ns;
            n->last_ns = e->timestamp_ns;
        }
        if (n->rules & (p->timed | ATF_UNNAMED) && p->timed) {
            while (w->n && w->calls[w->n - 1].depth >= e->call_depth) w->n--;
            if (w->n < ATF_WATCHED_MOST) {
                w->calls[w->n].id = e->function_id;
                w->calls[w->n].begun_ns = e->timestamp_ns;
                w->calls[w->n++].depth = e->call_depth;
            }
        }
        uint32_t met = n->rules & p->named & ~p->timed;
        if (met) return __builtin_ctz(met);
    } else if (p->timed && w->n && (e->event_kind == ATF_RETURN || e->event_kind == ATF_EXCEPTION)) {
        int rule = ended(p, f, w, e);
        if (rule >= 0) return rule;
    }
    return p->other && (e->event_kind == ATF_EXCEPTION || e->event_kind == ATF_INSTANT) ? other(p, e, detail) : -1;
}
