/* __cyg_profile_func_enter(function, call site) and _exit in the agent. An ordinary call of the C ABI: flags and the registers that a
 * callee may use are free. rdi and rsi stay, for whoever stood in our place goes on with them.
 *
 * A frame of the shadow stack stands for a call here too. Its slot is the reporting function's stack pointer, which the functions
 * inlined into it share; its `ret` holds the address behind the call that reported it, and 16 bits of the call site above. */
#include "../thread.h"
#include "cyg_table.h"
        .text
        .globl atf_path_begin, atf_path_end, atf_cyg_enter, atf_cyg_exit, atf_cyg_enter_own, atf_cyg_exit_own
        .hidden atf_path_begin, atf_path_end, atf_cyg_enter, atf_cyg_exit, atf_cyg_enter_own, atf_cyg_exit_own
        .hidden atf_agent_fast, atf_cyg_now, atf_cyg_sequence, atf_cyg_next, atf_cyg_enter_slow, atf_cyg_exit_slow

        /* r11: the thread, r10: its top frame. */
        .macro READY slow
        mov     atf_agent_fast@gottpoff(%rip), %rax
        mov     %fs:(%rax), %r11
        test    %r11, %r11
        jz      \slow
        mov     T_GATE(%r11), %rax
        mov     (%rax), %eax
        mov     T_SEEN(%r11), %ecx
        lea     -T_SEEN_BIAS(%rcx,%rax), %ecx
        test    %ecx, %ecx
        jnz     \slow
        mov     T_TOP(%r11), %r10
        .endm

        /* r9: the entry of the function in rdi; or to `none`. */
        .macro FIND none
        mov     atf_cyg_now(%rip), %r8
        movabs  $C_HASH, %rax
        imul    %rdi, %rax
        mov     C_SHIFT(%r8), %ecx
        shr     %cl, %rax
1:      mov     %rax, %r9
        shl     $5, %r9
        lea     C_ENTRIES(%r8,%r9), %r9
        mov     C_FUNCTION(%r9), %rcx
        cmp     %rdi, %rcx
        je      2f
        test    %rcx, %rcx
        jz      \none
        inc     %rax
        and     C_MASK(%r8), %rax
        jmp     1b
2:
        .endm

        /* Writes one record of the frame in r10, inside a restartable sequence: see hot_x86_64.S. */
        .macro RECORD name, word, full
.Larm_\name:
        lea     .Lcs_\name(%rip), %rax
        mov     atf_cyg_sequence(%rip), %rcx
        mov     %rax, %fs:(%rcx)
.Lstart_\name:
        mov     T_HEAD(%r11), %rax
        mov     (%rax), %r8
        mov     T_NEGCAP(%r11), %rcx
        add     %r8, %rcx
        jz      \full
        shl     $5, %r8
        add     T_BASE(%r11), %r8
        rdtsc
        mov     %eax, (%r8)
        mov     %edx, 4(%r8)
        mov     E_STUB(%r10), %rax
        mov     STUB_ID-STUB_RET_ENTER(%rax), %rax
        mov     %rax, 8(%r8)
        mov     \word(%r11), %rax
        mov     %rax, 16(%r8)
        mov     E_DEPTH(%r10), %eax
        mov     %eax, 24(%r8)
        movl    $-1, 28(%r8)
        mov     T_HEAD(%r11), %rcx
        incq    (%rcx)
.Lend_\name:
        .pushsection .data.rel.ro.local, "aw"
        .balign 32
.Lcs_\name:
        .long   0, 0
        .quad   .Lstart_\name, .Lend_\name - .Lstart_\name, .Labort_\name
        .popsection
        .endm
        .macro ABORT name
        .long   0x53053053
.Labort_\name:
        jmp     .Larm_\name
        .endm

        .macro NEXT which
        mov     atf_cyg_next+8*\which(%rip), %rax
        test    %rax, %rax
        jz      1f
        jmp     *%rax
1:      ret
        .endm
        .macro SLOW to
        push    %rdi
        push    %rsi
        lea     -8(%rsp), %rsp
        lea     32(%rsp), %rdx
        mov     24(%rsp), %rcx
        call    \to
        lea     8(%rsp), %rsp
        pop     %rsi
        pop     %rdi
        .endm

        .macro ENTER name, which
        .balign 64
\name:
        endbr64
        READY   .Lslow_\name
        FIND    .Lnext_\name
        lea     8(%rsp), %rdx
        cmp     E_SLOT(%r10), %rdx
        jae     4f
3:      cmpl    $0, E_SIZE+E_WALL(%r10)
        jne     .Lslow_\name
        mov     E_DEPTH(%r10), %ecx
        inc     %ecx
        add     $E_SIZE, %r10
        mov     %r10, T_TOP(%r11)       /* reserved first: a handler in between pushes above */
        mov     %ecx, E_DEPTH(%r10)
        mov     %rsi, %rax
        shl     $48, %rax
        or      (%rsp), %rax
        mov     %rax, E_RET(%r10)
        lea     STUB_RET_ENTER(%r9), %rax
        mov     %rax, E_STUB(%r10)
        mov     %rdx, E_SLOT(%r10)
        RECORD  \name, T_CALL, .Lfull_\name
.Lnext_\name:
        NEXT    \which
        /* The same stack pointer: a function inlined into the one on top, if it has the same caller, reports from further on, and
         * from outside its own code. Whatever else looks so is for the slow path to tell from a frame that was left by longjmp. */
4:      jne     .Lslow_\name
        mov     E_STUB(%r10), %rcx
        testl   $STUB_CYG, STUB_FLAGS-STUB_RET_ENTER(%rcx)
        jz      .Lslow_\name
        mov     E_RET(%r10), %rax
        mov     %rax, %r8
        shr     $48, %r8
        movzwl  %si, %ecx
        cmp     %ecx, %r8d
        jne     .Lslow_\name
        shl     $16, %rax
        shr     $16, %rax
        cmp     %rax, (%rsp)
        jbe     .Lslow_\name
        mov     (%rsp), %rax
        sub     %rdi, %rax
        mov     C_SIZE(%r9), %ecx
        cmp     %rcx, %rax
        jae     3b
        jmp     .Lslow_\name
.Lfull_\name:
        movq    $0, E_SLOT(%r10)
        sub     $E_SIZE, %r10
        mov     %r10, T_TOP(%r11)
.Lslow_\name:
        SLOW    atf_cyg_enter_slow
        NEXT    \which
        ABORT   \name
        .endm

        .macro EXIT name, which
        .balign 64
\name:
        endbr64
        READY   .Lslow_\name
        lea     8(%rsp), %rdx
        mov     E_SLOT(%r10), %rax
        cmp     %rdx, %rax
        jne     4f
3:      mov     E_STUB(%r10), %rcx
        cmp     %rdi, C_FUNCTION-STUB_RET_ENTER(%rcx)
        jne     5f
        cmpl    $0, T_RAISING(%r11)
        jne     .Lslow_\name
        RECORD  \name, T_RETURN, .Lslow_\name
        movq    $0, E_SLOT(%r10)
        sub     $E_SIZE, %r10
        mov     %r10, T_TOP(%r11)
.Lnext_\name:
        NEXT    \which
        /* The report as a tail call: it returns to the function's caller, and the function's frame is gone already. */
4:      ja      5f
        test    %rax, %rax
        jz      5f
        cmp     %rsi, (%rsp)
        jne     5f
        cmp     E_SLOT-E_SIZE(%r10), %rdx
        jbe     3b
5:      FIND    .Lnext_\name
.Lslow_\name:
        SLOW    atf_cyg_exit_slow
        NEXT    \which
        ABORT   \name
        .endm

atf_path_begin:
        ENTER   atf_cyg_enter, 0
        EXIT    atf_cyg_exit, 1
        ENTER   atf_cyg_enter_own, 2
        EXIT    atf_cyg_exit_own, 3
atf_path_end:
        .section .note.GNU-stack, "", @progbits
