/* See writer.h. */
#include "writer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER 64
#define RESERVE_FROM (4u << 20)
#define RESERVE_AHEAD (32u << 20)

/* All bytes or an errno; a part that was written is counted in *done. */
static int write_all(int fd, const void *bytes, uint64_t n, uint64_t offset, uint64_t *done)
{
    uint64_t at = 0;
    while (at < n) {
        ssize_t k = pwrite(fd, (const char *)bytes + at, n - at > (1u << 30) ? (1u << 30) : n - at, (off_t)(offset + at));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            *done = at;
            return k < 0 ? errno : ENOSPC;
        }
        at += (uint64_t)k;
    }
    *done = at;
    return 0;
}

static int open_file(atf_writer *w, const char *name, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return open(path, flags | O_CLOEXEC, 0600);
}

static atf_index_header index_header(const atf_writer *w, uint32_t count, uint64_t footer)
{
    atf_index_header h = {{'A', 'T', 'I', '2'}, 1, ATF_FILE_VERSION, ATF_ARCH, ATF_OS, w->details ? 1u : 0u, w->tid,
                          ATF_CLOCK_BOOTTIME, {0}, 0, sizeof(atf_event), count, HEADER, footer, w->time_start_ns, w->time_end_ns};
    return h;
}

static atf_detail_header detail_header(const atf_writer *w)
{
    atf_detail_header h = {{'A', 'T', 'D', '2'}, 1, ATF_FILE_VERSION, ATF_ARCH, ATF_OS, 0, w->tid, 0,
                           HEADER, w->details, w->detail_bytes, w->first_detail_index, w->last_detail_index, {0}};
    return h;
}

/* An empty writer for thread_<number> of another directory. 0 or an errno. */
static int renew(atf_writer *w, const char *dir, uint32_t number)
{
    size_t room = strlen(dir) + 24;
    free(w->dir);
    memset(w, 0, sizeof *w);
    w->index_fd = w->detail_fd = -1;
    w->dir = malloc(room);
    if (!w->dir) return ENOMEM;
    snprintf(w->dir, room, "%s/thread_%u", dir, number);
    return 0;
}

int atf_writer_open(atf_writer *w, const char *dir, uint32_t number, uint32_t tid, const atf_event *first, uint32_t n)
{
    char from[4096], to[4096];
    errno = renew(w, dir, number);
    w->tid = tid;
    if (errno || (mkdir(w->dir, 0700) != 0 && errno != EEXIST)) goto refused;
    w->index_fd = open_file(w, n ? "index.new" : "index.atf", O_CREAT | O_TRUNC | O_RDWR);
    if (w->index_fd < 0) goto refused;
    uint64_t done;
    atf_index_header h = index_header(w, 0, HEADER);
    errno = write_all(w->index_fd, &h, sizeof h, 0, &done);
    if (errno) goto refused;
    if (!n) return 0;
    snprintf(from, sizeof from, "%s/index.new", w->dir);
    snprintf(to, sizeof to, "%s/index.atf", w->dir);
    if (atf_writer_events(w, first, n) == n && rename(from, to) == 0) {
        w->carried = n - 1;
        return 0;
    }
    if (w->error) errno = w->error;
refused:
    w->error = errno;
    if (w->index_fd >= 0) close(w->index_fd);
    w->index_fd = -1;
    w->events = 0;
    return -1;
}

/* Disk blocks ahead of the file's end, without changing its size: saves a third of what a write costs on ext4. A file
 * system that cannot, or a disk that is nearly full, is no reason to stop. atf_writer_finish gives the rest back. */
static void reserve(atf_writer *w, uint64_t end)
{
#ifdef __linux__
    if (end <= w->reserved || end < RESERVE_FROM) return;
    if (fallocate(w->index_fd, FALLOC_FL_KEEP_SIZE, (off_t)w->reserved, (off_t)(end - w->reserved + RESERVE_AHEAD)) == 0) w->reserved = end + RESERVE_AHEAD;
    else w->reserved = UINT64_MAX;
#endif
}

uint64_t atf_writer_events(atf_writer *w, const atf_event *events, uint64_t n)
{
    uint64_t done, offset = HEADER + w->events * sizeof(atf_event);
    reserve(w, offset + n * sizeof(atf_event));
    w->error = write_all(w->index_fd, events, n * sizeof(atf_event), offset, &done);
    uint64_t whole = done / sizeof(atf_event);
    if (w->error && ftruncate(w->index_fd, (off_t)(offset + whole * sizeof(atf_event))) != 0) w->error = errno;
    if (whole) {
        if (w->events == 0) w->time_start_ns = events[0].timestamp_ns;
        w->time_end_ns = events[whole - 1].timestamp_ns;
        w->events += whole;
    }
    return whole;
}

int atf_writer_details(atf_writer *w, const void *records, uint64_t bytes, uint64_t n, uint32_t first_index, uint32_t last_index)
{
    uint64_t done;
    if (w->detail_fd < 0) {
        w->detail_fd = open_file(w, "detail.atf", O_CREAT | O_TRUNC | O_RDWR);
        if (w->detail_fd < 0) {
            w->error = errno;
            return -1;
        }
        atf_detail_header h = detail_header(w);
        w->error = write_all(w->detail_fd, &h, sizeof h, 0, &done);
        if (w->error) {
            close(w->detail_fd);
            w->detail_fd = -1;
            return -1;
        }
    }
    w->error = write_all(w->detail_fd, records, bytes, HEADER + w->detail_bytes, &done);
    if (w->error) {
        if (ftruncate(w->detail_fd, (off_t)(HEADER + w->detail_bytes)) != 0) w->error = errno;
        return -1;
    }
    if (w->details == 0) w->first_detail_index = first_index;
    w->last_detail_index = last_index;
    w->details += n;
    w->detail_bytes += bytes;
    return 0;
}

void atf_writer_cut_details(atf_writer *w, uint64_t bytes, uint64_t n, uint32_t last_index)
{
    w->details -= n;
    w->detail_bytes -= bytes;
    w->last_detail_index = last_index;
    if (ftruncate(w->detail_fd, (off_t)(HEADER + w->detail_bytes)) != 0) w->error = errno;
}

static int finish_details(atf_writer *w)
{
    uint64_t done;
    atf_detail_footer f = {{'2', 'D', 'T', 'A'}, 0, w->details, w->detail_bytes, w->time_start_ns, w->time_end_ns, {0}};
    atf_detail_header h = detail_header(w);
    int error = write_all(w->detail_fd, &f, sizeof f, HEADER + w->detail_bytes, &done);
    if (error && ftruncate(w->detail_fd, (off_t)(HEADER + w->detail_bytes)) != 0) error = errno;
    if (!error) error = write_all(w->detail_fd, &h, sizeof h, 0, &done);
    close(w->detail_fd);
    w->detail_fd = -1;
    return error;
}

int atf_writer_finish(atf_writer *w)
{
    if (w->index_fd < 0) return 0;
    uint64_t done, end = HEADER + w->events * sizeof(atf_event);
    int error = w->detail_fd >= 0 ? finish_details(w) : 0;
    atf_index_footer f = {{'2', 'I', 'T', 'A'}, 0, w->events, w->time_start_ns, w->time_end_ns, w->events * sizeof(atf_event), {0}};
    int e = write_all(w->index_fd, &f, sizeof f, end, &done);
    if ((e || w->reserved) && ftruncate(w->index_fd, (off_t)(e ? end : end + sizeof f)) != 0 && !e) e = errno;
    /* Without its footer the file stays as a reader expects an unfinished one: count 0, footer at 64. */
    atf_index_header h = index_header(w, e ? 0 : (uint32_t)w->events, e ? HEADER : end);
    if (!e) e = write_all(w->index_fd, &h, sizeof h, 0, &done);
    close(w->index_fd);
    w->index_fd = -1;
    w->error = e ? e : error;
    return w->error ? -1 : 0;
}

int atf_writer_reopen(atf_writer *w)
{
    w->index_fd = open_file(w, "index.atf", O_RDWR);
    if (w->index_fd >= 0 && w->details) w->detail_fd = open_file(w, "detail.atf", O_RDWR);
    int bad = w->index_fd < 0 || (w->details && w->detail_fd < 0);
    if (!bad) bad = ftruncate(w->index_fd, (off_t)(HEADER + w->events * sizeof(atf_event))) != 0;
    if (!bad && w->details) bad = ftruncate(w->detail_fd, (off_t)(HEADER + w->detail_bytes)) != 0;
    w->reserved = 0;
    if (!bad) return 0;
    w->error = errno;
    if (w->index_fd >= 0) close(w->index_fd);
    if (w->detail_fd >= 0) close(w->detail_fd);
    w->index_fd = w->detail_fd = -1;
    return -1;
}

int atf_writer_link(atf_writer *w, const void *records, uint64_t n, uint32_t first, atf_event *room, uint32_t events)
{
    const uint8_t *at = records;
    atf_detail_record r;
    for (uint64_t i = 0; i < n;) {
        /* A run of events that lie near each other is read, changed and written at once. */
        memcpy(&r, at, sizeof r);
        uint32_t from = r.index_seq, last = from;
        const uint8_t *ahead = at;
        uint64_t k = i;
        for (; k < n; k++, ahead += r.total_length) {
            memcpy(&r, ahead, sizeof r);
            if (r.index_seq - from >= events || r.index_seq - last > 512) break;
            last = r.index_seq;
        }
        uint64_t bytes = (uint64_t)(last - from + 1) * sizeof *room, offset = HEADER + (uint64_t)from * sizeof *room, done;
        ssize_t got = pread(w->index_fd, room, bytes, (off_t)offset);
        if (got != (ssize_t)bytes) {
            w->error = got < 0 ? errno : EIO;
            return -1;
        }
        for (; i < k; i++, at += r.total_length) {
            memcpy(&r, at, sizeof r);
            room[r.index_seq - from].detail_seq = first + (uint32_t)i;
        }
        w->error = write_all(w->index_fd, room, bytes, offset, &done);
        if (w->error) return -1;
    }
    return 0;
}

void atf_writer_drop(atf_writer *w)
{
    if (w->index_fd >= 0) close(w->index_fd);
    if (w->detail_fd >= 0) close(w->detail_fd);
    w->index_fd = w->detail_fd = -1;
    free(w->dir);
    w->dir = NULL;
}

/* ---------------------------------------------------------------- going on behind a dead recorder */
static int resume_details(atf_writer *w)
{
    struct stat st;
    w->detail_fd = open_file(w, "detail.atf", O_RDWR);
    if (w->detail_fd < 0) return errno == ENOENT ? 0 : errno;
    if (fstat(w->detail_fd, &st) != 0) return errno;
    uint64_t at = HEADER;
    atf_detail_record r;
    while (pread(w->detail_fd, &r, sizeof r, (off_t)at) == (ssize_t)sizeof r) {
        /* A detail whose event did not reach the file has nothing to belong to. */
        if (r.total_length < sizeof r || at + r.total_length > (uint64_t)st.st_size || r.index_seq >= w->events) break;
        if (w->details == 0) w->first_detail_index = r.index_seq;
        w->last_detail_index = r.index_seq;
        w->details++;
        at += r.total_length;
    }
    w->detail_bytes = at - HEADER;
    return ftruncate(w->detail_fd, (off_t)at) == 0 ? 0 : errno;
}

int atf_writer_resume(atf_writer *w, const char *dir, uint32_t number, uint64_t lost[8], uint64_t *gaps)
{
    struct stat st;
    atf_index_header h;
    int later = 0; /* a file of a later part */
    *gaps = 0;
    memset(lost, 0, 8 * sizeof *lost);
    errno = renew(w, dir, number);
    if (errno) goto refused;
    w->index_fd = open_file(w, "index.atf", O_RDWR);
    if (w->index_fd < 0 && errno == ENOENT) {
        char half[4096];
        snprintf(half, sizeof half, "%s/index.new", w->dir);
        if (unlink(half) == 0 || errno == ENOENT) rmdir(w->dir); /* died while it made the file */
        return 1;
    }
    if (w->index_fd < 0 || fstat(w->index_fd, &st) != 0) goto refused;
    if (st.st_size < HEADER || pread(w->index_fd, &h, sizeof h, 0) != (ssize_t)sizeof h) {
        close(w->index_fd); /* died while it made the file */
        w->index_fd = -1;
        return 1;
    }
    w->tid = h.thread_id;
    uint64_t n = h.footer_offset > HEADER ? (h.footer_offset - HEADER) / sizeof(atf_event) : ((uint64_t)st.st_size - HEADER) / sizeof(atf_event);
    atf_event *chunk = malloc(4096 * sizeof(atf_event));
    if (!chunk) goto refused;
    for (uint64_t at = 0; at < n;) {
        uint64_t want = n - at < 4096 ? n - at : 4096;
        ssize_t got = pread(w->index_fd, chunk, want * sizeof(atf_event), (off_t)(HEADER + at * sizeof(atf_event)));
        if (got < (ssize_t)sizeof(atf_event)) {
            n = at;
            break;
        }
        want = (uint64_t)got / sizeof(atf_event);
        if (at == 0) w->time_start_ns = chunk[0].timestamp_ns;
        /* Not an event: a footer whose header was not written any more, or a part of one. */
        for (uint64_t i = 0; i < want; i++)
            if (chunk[i].event_kind == 0 || chunk[i].event_kind > ATF_KIND_MAX || chunk[i].timestamp_ns < w->time_start_ns) n = at + i < n ? at + i : n;
        if (n - at < want) want = n - at;
        if (want == 0) break;
        for (uint64_t i = 0; i < want; i++)
            if (chunk[i].event_kind == ATF_GAP) {
                later |= at + i == 0 && chunk[i].call_depth == ATF_GAP_EARLIER;
                lost[chunk[i].call_depth & 7] += chunk[i].function_id;
                ++*gaps;
            } else if (later && at + i == w->carried + 1 && chunk[i].timestamp_ns == w->time_start_ns) {
                w->carried++; /* what comes after these is later: see atf_output_next_part */
            }
        w->time_end_ns = chunk[want - 1].timestamp_ns;
        at += want;
    }
    free(chunk);
    w->events = n;
    if (ftruncate(w->index_fd, (off_t)(HEADER + n * sizeof(atf_event))) != 0) goto refused;
    errno = resume_details(w);
    if (errno == 0) return 0;
refused:
    w->error = errno;
    atf_writer_drop(w);
    return -1;
}
