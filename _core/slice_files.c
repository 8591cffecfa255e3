/* The writing half of slice.h: what was copied of a thread becomes the bytes of its files, each written at once. */
#include "slice.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER 64
#define FOOTER 64

/* ---------------------------------------------------------------- functions
 * The distinct ids, in a table of open addresses that lasts for one cut: functions[] holds it, id 0 is free. */
static int note_function(atf_cut *cut, uint64_t id)
{
    if (!id) return 1;
    if (4 * (uint64_t)cut->n_functions >= 3 * (uint64_t)cut->functions_room) {
        atf_cut larger = {.functions_room = cut->functions_room ? 2 * cut->functions_room : 256};
        larger.functions = calloc(larger.functions_room, sizeof *larger.functions);
        if (!larger.functions) return 0;
        for (uint32_t i = 0; i < cut->functions_room; i++) note_function(&larger, cut->functions[i]);
        free(cut->functions);
        cut->functions = larger.functions;
        cut->functions_room = larger.functions_room;
    }
    uint32_t mask = cut->functions_room - 1, i = (uint32_t)((id * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (cut->functions[i] && cut->functions[i] != id) i = (i + 1) & mask;
    cut->n_functions += !cut->functions[i];
    cut->functions[i] = id;
    return 1;
}

/* ---------------------------------------------------------------- joining */
typedef struct joining {
    atf_cutter *k;
    atf_cut *cut;
    atf_cut_thread *t;
    atf_event *to; /* next in t->index */
    const atf_detail_run *details;
    uint64_t detail_at, detail_number; /* in that run */
    uint32_t first_detail, last_detail; /* index_seq of those that were linked */
} joining;

static void gap(joining *j, uint64_t count, uint64_t ns)
{
    *j->to++ = (atf_event){ns, count, j->t->tid, ATF_GAP, ATF_GAP_EXHAUSTED, ATF_NO_DETAIL};
    j->t->gaps++;
}

/* The detail of a number, which only grows from call to call; NULL: it is gone. */
static const uint8_t *find_detail(joining *j, uint64_t number)
{
    while (j->details) {
        const atf_detail_run *run = j->details;
        if (!j->detail_at) j->detail_number = run->first;
        while (j->detail_at < run->bytes && j->detail_number < number) {
            atf_detail_record r;
            memcpy(&r, run->records + j->detail_at, sizeof r);
            j->detail_at += r.total_length;
            j->detail_number++;
        }
        if (j->detail_at < run->bytes) return j->detail_number == number ? run->records + j->detail_at : NULL;
        j->details = run->next;
        j->detail_at = 0;
    }
    return NULL;
}

static uint32_t link_detail(joining *j, const atf_event *e, uint32_t index_seq)
{
    const uint8_t *found = find_detail(j, e->detail_seq);
    if (!found) {
        j->t->details_lost++;
        return ATF_NO_DETAIL;
    }
    atf_detail_record r;
    memcpy(&r, found, sizeof r);
    uint8_t *to = j->t->detail + HEADER + j->t->detail_bytes;
    memcpy(to, found, r.total_length);
    r.index_seq = index_seq;
    r.timestamp = e->timestamp_ns;
    memcpy(to, &r, sizeof r);
    j->t->detail_bytes += r.total_length;
    if (!j->t->details) j->first_detail = index_seq;
    j->last_detail = index_seq;
    return (uint32_t)j->t->details++;
}

static void finish(const joining *j)
{
    atf_cut_thread *t = j->t;
    uint64_t bytes = t->events * sizeof(atf_event);
    atf_index_header h = {{'A', 'T', 'I', '2'}, 1, ATF_FILE_VERSION, ATF_ARCH, ATF_OS, t->details ? 1u : 0u, t->tid, ATF_CLOCK_BOOTTIME, {0}, 0,
                          sizeof(atf_event), (uint32_t)t->events, HEADER, HEADER + bytes, t->time_start_ns, t->time_end_ns};
    atf_index_footer f = {{'2', 'I', 'T', 'A'}, 0, t->events, t->time_start_ns, t->time_end_ns, bytes, {0}};
    memcpy(t->index, &h, sizeof h);
    memcpy(t->index + HEADER + bytes, &f, sizeof f);
    if (!t->details) return;
    atf_detail_header dh = {{'A', 'T', 'D', '2'}, 1, ATF_FILE_VERSION, ATF_ARCH, ATF_OS, 0, t->tid, 0,
                            HEADER, t->details, t->detail_bytes, j->first_detail, j->last_detail, {0}};
    atf_detail_footer df = {{'2', 'D', 'T', 'A'}, 0, t->details, t->detail_bytes, t->time_start_ns, t->time_end_ns, {0}};
    memcpy(t->detail, &dh, sizeof dh);
    memcpy(t->detail + HEADER + t->detail_bytes, &df, sizeof df);
}

int atf_cut_join(atf_cutter *k, atf_cut *cut, atf_cut_thread *t, const atf_run *runs, const atf_detail_run *details, uint64_t gap_ns)
{
    uint64_t records = 1, detail_bytes = 0, last_ns = 0; /* one for the GAP in front */
    for (const atf_run *r = runs; r; r = r->next) records += r->n + 1;
    for (const atf_detail_run *d = details; d; d = d->next) detail_bytes += d->bytes;
    t->index = malloc(HEADER + records * sizeof(atf_event) + FOOTER);
    if (detail_bytes) t->detail = malloc(HEADER + detail_bytes + FOOTER);
    if (!t->index || (detail_bytes && !t->detail)) return -1;
    atf_event *first = (atf_event *)(t->index + HEADER);
    joining j = {k, cut, t, first, details, 0, 0, 0, 0};
    if (t->overwritten) gap(&j, t->overwritten, runs ? atf_to_ns(&k->scale, runs->events[0].timestamp_ns) : gap_ns);
    uint64_t expected = runs ? runs->first : 0, seen = 0;
    for (const atf_run *r = runs; r; r = r->next) {
        if (r->first > expected) {
            gap(&j, r->first - expected, atf_to_ns(&k->scale, r->events[0].timestamp_ns));
            t->missing += r->first - expected;
        }
        expected = r->first + r->n;
        for (uint64_t i = 0; i < r->n; i++) {
            atf_event *e = j.to++;
            *e = r->events[i];
            e->timestamp_ns = atf_to_ns(&k->scale, e->timestamp_ns);
            if (e->timestamp_ns < last_ns) e->timestamp_ns = last_ns; /* never backwards within a thread */
            last_ns = e->timestamp_ns;
            if (e->detail_seq != ATF_NO_DETAIL) e->detail_seq = link_detail(&j, e, (uint32_t)(e - first));
            if (e->function_id != seen && !atf_tells_level(e) && !note_function(cut, e->function_id)) return -1;
            seen = e->function_id;
        }
    }
    t->events = (uint64_t)(j.to - first);
    t->time_start_ns = t->events ? first->timestamp_ns : gap_ns;
    t->time_end_ns = t->events ? j.to[-1].timestamp_ns : gap_ns;
    finish(&j);
    return 0;
}

/* ---------------------------------------------------------------- files */
static int write_file(int in, const char *name, const void *bytes, uint64_t n)
{
    int fd = openat(in, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600), error = 0;
    if (fd < 0) return errno;
    for (uint64_t at = 0; at < n && !error;) {
        ssize_t k = write(fd, (const char *)bytes + at, n - at > (1u << 30) ? (1u << 30) : n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) error = k < 0 ? errno : ENOSPC;
        else at += (uint64_t)k;
    }
    if (close(fd) != 0 && !error) error = errno;
    return error;
}

int atf_cut_write(const atf_cut *cut, const char *dir, const void *manifest, uint64_t manifest_bytes, uint64_t *bytes)
{
    char name[48];
    *bytes = manifest_bytes;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) return errno;
    int in = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;
    if (in < 0) return errno;
    for (uint32_t i = 0; i < cut->n && !error; i++) {
        const atf_cut_thread *t = &cut->threads[i];
        uint64_t index = HEADER + t->events * sizeof(atf_event) + FOOTER, detail = t->details ? HEADER + t->detail_bytes + FOOTER : 0;
        snprintf(name, sizeof name, "thread_%u", t->number);
        if (mkdirat(in, name, 0700) != 0) error = errno;
        snprintf(name, sizeof name, "thread_%u/detail.atf", t->number);
        if (!error && detail) error = write_file(in, name, t->detail, detail);
        snprintf(name, sizeof name, "thread_%u/index.atf", t->number);
        if (!error) error = write_file(in, name, t->index, index);
        *bytes += index + detail;
    }
    if (!error) error = write_file(in, "manifest.json", manifest, manifest_bytes);
    close(in);
    return error;
}
