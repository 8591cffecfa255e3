/* The way from a stub to the record path in C and back. The stub pushed x16 and x17, which then holds its address. Everything else
 * that C may change is saved, flags and the registers that no call preserves too: compilers know what a local function leaves alone,
 * and hand-written code what it calls.
 * C is compiled for general registers only, so vector registers are copied for details and never restored.
 *
 * Nothing is restartable here: while C is at work, what signal handlers of the thread record is kept aside and written behind it. */
#include "../thread.h"
        .text
        .globl atf_path_begin, atf_path_end, atf_hot_enter, atf_hot_leave, atf_hot_enter_details, atf_hot_leave_details
        .hidden atf_path_begin, atf_path_end, atf_hot_enter, atf_hot_leave, atf_hot_enter_details, atf_hot_leave_details

        .macro SAVE
        sub     sp, sp, #R_ALL
        stp     x17, x30, [sp, #R_STUB]
        stp     x0, x1, [sp]
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        add     x0, sp, #R_ALL+R_PUSHED /* the slot */
        stp     x29, x0, [sp, #R_FP]
        stp     x8, x9, [sp, #R_X8]
        stp     x10, x11, [sp, #R_X8+16]
        stp     x12, x13, [sp, #R_X8+32]
        stp     x14, x15, [sp, #R_X8+48]
        mrs     x2, nzcv
        stp     x18, x2, [sp, #R_X18]
        .endm

        .macro SAVE_VECTORS
        stp     d0, d1, [sp, #R_VECTORS]
        stp     d2, d3, [sp, #R_VECTORS+16]
        stp     d4, d5, [sp, #R_VECTORS+32]
        stp     d6, d7, [sp, #R_VECTORS+48]
        .endm

        .macro RESTORE
        ldp     x18, x2, [sp, #R_X18]
        msr     nzcv, x2
        ldp     x14, x15, [sp, #R_X8+48]
        ldp     x12, x13, [sp, #R_X8+32]
        ldp     x10, x11, [sp, #R_X8+16]
        ldp     x8, x9, [sp, #R_X8]
        ldr     x29, [sp, #R_FP]
        ldp     x6, x7, [sp, #48]
        ldp     x4, x5, [sp, #32]
        ldp     x2, x3, [sp, #16]
        ldp     x0, x1, [sp]
        ldp     x17, x30, [sp, #R_STUB]
        add     sp, sp, #R_ALL
        .endm

        /* w0: whether the function's return is ours. The moved instruction follows, a signing of x30 among others: after ours is in it. */
        .macro GO_IN
        cbz     w0, 1f
        ldr     x17, [sp, #R_STUB]
        add     x17, x17, #STUB_RET_BODY
        str     x17, [sp, #R_LINK]
1:      RESTORE
        add     x17, x17, #STUB_BACK
        br      x17
        .endm

        .balign 64
atf_path_begin:
atf_hot_enter:
        SAVE
        mov     x1, x17
        bl      atf_agent_enter
        GO_IN

        .balign 64
/* Where a function returns to. */
atf_hot_leave:
        SAVE
        bl      atf_agent_leave
        str     x0, [sp, #R_LINK]
        RESTORE
        ldp     x16, x17, [sp], #R_PUSHED
        ret

        .balign 64
atf_hot_enter_details:
        SAVE
        SAVE_VECTORS
        mov     x0, sp
        bl      atf_agent_enter_details
        GO_IN

        .balign 64
atf_hot_leave_details:
        SAVE
        SAVE_VECTORS
        mov     x0, sp
        bl      atf_agent_leave_details
        str     x0, [sp, #R_LINK]
        RESTORE
        ldp     x16, x17, [sp], #R_PUSHED
        ret
atf_path_end:
        .section .note.GNU-stack, "", %progbits
