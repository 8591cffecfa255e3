/* The record path. One position-independent block, copied once into every stub arena (within reach of the code that it traces),
 * with a table of literals behind it; thread-local offsets are written into the copy. It changes no flag and no vector register: only mov, lea, not, bswap, jrcxz.
 * Registers are saved below the stack pointer, which a signal leaves alone (128 bytes) and the function has not used yet.
 *
 * Between `cs` and the store that commits a record runs a restartable sequence (rseq): a signal or a preemption in it sends the
 * thread back to `arm`, so that a handler's records stand whole before the one that was begun, in the order of time. */
#include "../thread.h"
#define RECORDS_AHEAD 2048 /* bytes: some hundred ns before the line is written. 1 to 3 KB serve alike, 200 bytes are too near */
        .section .text
        .globl atf_hot_begin, atf_hot_enter, atf_hot_entry_only, atf_hot_leave, atf_hot_literals, atf_hot_end
        .hidden atf_hot_begin, atf_hot_enter, atf_hot_entry_only, atf_hot_leave, atf_hot_literals, atf_hot_end
        .globl atf_hot_enter_timed, atf_hot_leave_timed, atf_hot_enter_details, atf_hot_leave_details, atf_hot_enter_framed
        .hidden atf_hot_enter_timed, atf_hot_leave_timed, atf_hot_enter_details, atf_hot_leave_details, atf_hot_enter_framed
        .globl atf_hot_cs, atf_hot_offsets
        .hidden atf_hot_cs, atf_hot_offsets

        .macro SAVE
        mov     %rax, -8(%rsp)
        mov     %rcx, -16(%rsp)
        mov     %rdx, -24(%rsp)
        mov     %r10, -32(%rsp)
        mov     %r11, -40(%rsp)
        .endm
        .macro RESTORE
        mov     -8(%rsp), %rax
        mov     -16(%rsp), %rcx
        mov     -24(%rsp), %rdx
        mov     -32(%rsp), %r10
        mov     -40(%rsp), %r11
        .endm

        /* r11: the thread, r10: its top frame; or to `slow`: none is ready, or the session changed. */
        .macro THREAD n, slow
        mov     %fs:0x7ffffff0, %rcx
.Lfast\n:
        jrcxz   \slow
        mov     %rcx, %r11
        mov     T_GATE(%rcx), %rax
        mov     (%rax), %eax
        mov     T_SEEN(%rcx), %ecx
        lea     -T_SEEN_BIAS(%rcx,%rax), %ecx
        mov     T_TOP(%r11), %r10
        jrcxz   1f
        jmp     \slow
1:
        .endm

        /* To `slow` unless the new frame's return slot (\at bytes from \from) lies below the top frame's: addresses have their top byte
         * zero, so the top byte of the difference says which. */
        .macro BELOW_TOP at, slow, from=%rsp
        mov     E_SLOT(%r10), %rcx
        not     %rcx
        lea     \at+1(\from,%rcx), %rcx
        bswap   %rcx
        movzbl  %cl, %ecx
        jrcxz   \slow
        .endm

        /* Writes one record: r11 thread; \word its kind; ends with the commit. Clobbers rax, rcx, rdx. */
        .macro RECORD n, word, full, stub, depth
.Larm\n:
        lea     .Lcs\n(%rip), %rax
        mov     %rax, %fs:0x7ffffff0
.Lcs\n\()_start:
        mov     T_HEAD(%r11), %rax
        mov     (%rax), %rdx
        mov     T_NEGCAP(%r11), %rcx
        lea     (%rcx,%rdx), %rcx
        jrcxz   \full
        lea     (,%rdx,8), %rdx
        mov     T_BASE(%r11), %rcx
        lea     (%rcx,%rdx,4), %rcx
        prefetchw RECORDS_AHEAD(%rcx)   /* these lines were read by another core since; beyond the ring's end it does nothing */
        rdtsc
        mov     %eax, (%rcx)
        mov     %edx, 4(%rcx)
        mov     \stub, %rax
        mov     STUB_ID-STUB_RET_ENTER(%rax), %rax
        mov     %rax, 8(%rcx)
        mov     \word(%r11), %rax
        mov     %rax, 16(%rcx)
        mov     \depth, %eax
        movl    $-1, 28(%rcx)
        .ifc \n, 3
        lea     1(%rax), %eax
        .endif
        mov     %eax, 24(%rcx)
        mov     T_HEAD(%r11), %rcx
        mov     (%rcx), %rax
        lea     1(%rax), %rax
        mov     %rax, (%rcx)
.Lcs\n\()_end:
        .endm

        /* r10: a new frame, filled in; or to `slow`. The return slot stands at \from + 8. */
        .macro NEW_FRAME n, slow, from=%rsp, timed=0
        SAVE
        THREAD  \n, .Lnew\n\()_slow
        BELOW_TOP 8, .Lnew\n\()_slow, \from
        mov     E_SIZE+E_WALL(%r10), %ecx
        jrcxz   2f
.Lnew\n\()_slow:
        jmp     \slow
        .if \timed == 0
.Lnew\n\()_full:                          /* no room for its record: as if it had never been */
        movq    $0, E_SLOT(%r10)
        lea     -E_SIZE(%r10), %r10
        mov     %r10, T_TOP(%r11)
        jmp     \slow
        .endif
2:      mov     E_DEPTH(%r10), %ecx
        lea     E_SIZE(%r10), %r10
        .if \timed
        movabs  $ATF_START_TO_COME, %rax /* until its start is there a handler passes it over, and writes what waits below */
        mov     %rax, E_START(%r10)
        .endif
        mov     %r10, T_TOP(%r11)       /* reserved first: a handler in between pushes above */
        lea     8(\from), %rax
        mov     %rax, E_SLOT(%r10)
        mov     8(\from), %rax
        mov     %rax, E_RET(%r10)
        mov     (%rsp), %rax
        mov     %rax, E_STUB(%r10)
        lea     1(%rcx), %ecx
        mov     %ecx, E_DEPTH(%r10)
        .endm

        .balign 64
atf_hot_begin:
/* Called by a stub: [rsp] in the stub, [rsp + 8] the function's return address. */
atf_hot_enter:
        NEW_FRAME 1, .Lenter_slow
        RECORD  1, T_CALL, .Lnew1_full, E_STUB(%r10), E_DEPTH(%r10)
        RESTORE
        ret

        .balign 64
/* Where a function returns to: rsp stands behind its return slot. */
atf_hot_leave:
        lea     -8(%rsp), %rsp
        SAVE
        THREAD  2, .Lleave_slow_1
        mov     E_SLOT(%r10), %rcx
        not     %rcx
        lea     1(%rsp,%rcx), %rcx
        jrcxz   2f
.Lleave_slow_1:
        jmp     .Lleave_slow
2:      RECORD  2, T_RETURN, .Lleave_full, E_STUB(%r10), E_DEPTH(%r10)
        mov     E_RET(%r10), %rax
        mov     %rax, (%rsp)
        movq    $0, E_SLOT(%r10)
        lea     -E_SIZE(%r10), %r10
        mov     %r10, T_TOP(%r11)
        RESTORE
        ret
.Lleave_full:
        jmp     .Lleave_slow

        .balign 64
atf_hot_entry_only:
        SAVE
        THREAD  3, .Lentry_slow_1
        BELOW_TOP 8, .Lentry_slow_1
        jmp     2f
.Lentry_slow_1:
        jmp     .Lenter_slow
2:      RECORD  3, T_CALL, .Lentry_full, (%rsp), E_DEPTH(%r10)
        RESTORE
        ret
.Lentry_full:
        jmp     .Lenter_slow

        .balign 64
/* As atf_hot_enter, behind a prologue: the function's return address stands at 8(%rbp). */
atf_hot_enter_framed:
        NEW_FRAME 4, .Lframed_slow, %rbp
        RECORD  4, T_CALL, .Lnew4_full, E_STUB(%r10), E_DEPTH(%r10)
        RESTORE
        ret

        /* An aborted sequence comes here; the word before is what the kernel asks for. */
        .long   0x53053053
.Lcs1_abort:
        jmp     .Larm1
        .long   0x53053053
.Lcs2_abort:
        jmp     .Larm2
        .long   0x53053053
.Lcs3_abort:
        jmp     .Larm3
        .long   0x53053053
.Lcs4_abort:
        jmp     .Larm4
        .long   0x53053053
.Lcs5_abort:
        jmp     .Larm5
        .long   0x53053053
.Lcs6_abort:
        jmp     .Larm6

        .macro TO_C literal
        lea     -40(%rsp), %rsp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %rbx
        pushfq
        .endm
        .macro FROM_C
        mov     %rbx, %rsp
        .endm
        .macro BACK
        popfq
        pop     %rbx
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        lea     40(%rsp), %rsp
        RESTORE
        .endm

.Lenter_slow:
        TO_C
        lea     96(%rsp), %rdi
        mov     88(%rsp), %rsi
        mov     %rsp, %rbx
        and     $-16, %rsp
        cld
        call    *.Lenter_c(%rip)
        FROM_C
        test    %eax, %eax
        jnz     1f
        addq    $(STUB_BODY - STUB_RET_ENTER), 88(%rsp) /* not traced: straight to the moved instructions */
1:      BACK
        ret

.Lframed_slow:
        TO_C
        lea     8(%rbp), %rdi
        mov     88(%rsp), %rsi
        mov     %rsp, %rbx
        and     $-16, %rsp
        cld
        call    *.Lenter_c(%rip)
        FROM_C
        test    %eax, %eax
        jnz     1f
        addq    $(STUB_BODY + STUB_FRAMED_POP - STUB_RET_ENTER), 88(%rsp)
1:      BACK
        ret

.Lleave_slow:
        TO_C
        lea     88(%rsp), %rdi
        mov     %rsp, %rbx
        and     $-16, %rsp
        cld
        call    *.Lleave_c(%rip)
        FROM_C
        mov     %rax, 88(%rsp)
        BACK
        ret

#include "hot_details.h"

        /* Filled in for each copy, in the order of struct atf_literals. */
        .balign 32
atf_hot_literals:
.Lcs1:  .fill   32, 1, 0
.Lcs2:  .fill   32, 1, 0
.Lcs3:  .fill   32, 1, 0
.Lcs4:  .fill   32, 1, 0
.Lcs5:  .fill   32, 1, 0
.Lcs6:  .fill   32, 1, 0
.Lenter_c: .quad 0
.Lleave_c: .quad 0
.Lenter_details_c: .quad 0
.Lleave_details_c: .quad 0
atf_hot_end:

        /* start, commit and abort of each sequence, from the block's begin */
        .section .rodata
        .balign 8
atf_hot_cs:
        .quad   .Lcs1_start - atf_hot_begin, .Lcs1_end - atf_hot_begin, .Lcs1_abort - atf_hot_begin
        .quad   .Lcs2_start - atf_hot_begin, .Lcs2_end - atf_hot_begin, .Lcs2_abort - atf_hot_begin
        .quad   .Lcs3_start - atf_hot_begin, .Lcs3_end - atf_hot_begin, .Lcs3_abort - atf_hot_begin
        .quad   .Lcs4_start - atf_hot_begin, .Lcs4_end - atf_hot_begin, .Lcs4_abort - atf_hot_begin
        .quad   .Lcs5_start - atf_hot_begin, .Lcs5_end - atf_hot_begin, .Lcs5_abort - atf_hot_begin
        .quad   .Lcs6_start - atf_hot_begin, .Lcs6_end - atf_hot_begin, .Lcs6_abort - atf_hot_begin
        /* the end of each instruction whose last four bytes become an offset from the thread pointer: of the thread's block, of its
         * rseq area's sequence pointer */
atf_hot_offsets:
        .quad   .Lfast1 - atf_hot_begin, .Lfast2 - atf_hot_begin, .Lfast3 - atf_hot_begin, .Lfast4 - atf_hot_begin, .Lfast5 - atf_hot_begin
        .quad   .Lfast6 - atf_hot_begin
        .quad   .Lcs1_start - atf_hot_begin, .Lcs2_start - atf_hot_begin, .Lcs3_start - atf_hot_begin, .Lcs4_start - atf_hot_begin, .Lcs5_start - atf_hot_begin
        .quad   .Lcs6_start - atf_hot_begin
        .section .note.GNU-stack, "", @progbits
