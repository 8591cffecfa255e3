/* Moves the instructions that a jump will cover to another place, where they do the same.
 * Never includes Python.h. */
#ifndef ATF_RELOCATE_H
#define ATF_RELOCATE_H
#include "arch.h"

/* Where each moved instruction stands now: a thread that was stopped at old[i] goes on at moved[i]. */
typedef struct atf_moved {
    uint8_t bytes; /* written */
    uint8_t count;
    uint8_t old_at[ATF_PATCH_BYTES], moved_at[ATF_PATCH_BYTES]; /* offsets of instruction starts below ATF_PATCH_BYTES */
} atf_moved;

/* Moves from `code` (a function of `size` bytes, of which `room` bytes are readable) to `out`. Returns 0 or an atf_fn_reason.
 * What leads into the bytes from elsewhere is for others to find out: atf_sweep. */
int atf_relocate(const uint8_t *code, uint32_t size, uint32_t room, uint8_t *out, atf_moved *moved);

/* Whether a direct branch of the function leads into the bytes that a jump will cover, its first excepted: a branch to the start is as
 * good as a tail call to itself. */
int atf_jumps_back(const uint8_t *code, uint32_t size);
#endif
