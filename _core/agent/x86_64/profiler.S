/* What stands in the slots of mcount and __fentry__. Both read the return address of the function that calls them, which is ours where
 * another traced function ended in a jump to this one: then that one is over, and its return address is given back before they look.
 * They preserve every register but r11 and the flags (r10 is their caller's, the static chain). */
#include "../thread.h"
        .text
        .hidden atf_agent_fast, atf_profiler_next, atf_profiler_tail

        .macro PROFILER name, from, which
        .balign 32
        .globl  \name
        .hidden \name
\name:
        endbr64
        mov     atf_agent_fast@gottpoff(%rip), %r11
        mov     %fs:(%r11), %r11
        test    %r11, %r11
        jz      2f
        mov     T_TOP(%r11), %r11
        mov     E_SLOT(%r11), %r11
        sub     \from, %r11
        cmp     $8, %r11
        jle     2f                      /* not below the frame on top */
1:      mov     atf_profiler_next+8*\which(%rip), %r11
        jmp     *%r11
2:      lea     8(\from), %r11
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %rbx
        mov     %rsp, %rbx
        and     $-16, %rsp
        mov     %r11, %rdi
        cld
        call    atf_profiler_tail
        mov     %rbx, %rsp
        pop     %rbx
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
        jmp     1b
        .endm

        PROFILER atf_profiler_mcount, %rbp, 0
        PROFILER atf_profiler_fentry, %rsp, 1
        .section .note.GNU-stack, "", @progbits
