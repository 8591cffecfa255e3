/* Two more record paths, part of hot.S. Timed: an entry keeps its time in its frame and writes nothing, and a return that
 * came too soon writes nothing either; the others go to C, which writes what is due in the order of time. Details: every call goes
 * to C, with the registers saved: C is compiled for general registers only, so vector registers are copied and not restored. */

        /* rax: the ticks. Clobbers rdx. Two byte swaps move the upper half into place, and leave the flags alone. */
        .macro TICKS
        rdtsc
        bswap   %edx
        bswap   %rdx
        lea     (%rax,%rdx), %rax
        .endm

        .balign 64
atf_hot_enter_timed:
        NEW_FRAME 5, .Lenter_slow, timed=1
.Larm5:
        lea     .Lcs5(%rip), %rax
        mov     %rax, %fs:0x7ffffff0
.Lcs5_start:
        TICKS                           /* with what a handler wrote behind us: its records are older than this call */
        mov     %rax, E_START(%r10)
.Lcs5_end:
        RESTORE
        ret

        .balign 64
atf_hot_leave_timed:
        lea     -8(%rsp), %rsp
        SAVE
        THREAD  6, .Lleave_timed_slow
        mov     E_SLOT(%r10), %rcx
        not     %rcx
        lea     1(%rsp,%rcx), %rcx
        jrcxz   2f
.Lleave_timed_slow:
        jmp     .Lleave_slow
        /* Shorter than the least: the difference is negative, its top byte all ones. Where `start` is 0 it never is. A handler that
         * lasts makes this call a long one, and may have written its CALL: hence the sequence, which ends where the frame does. */
2:
.Larm6:
        lea     .Lcs6(%rip), %rax
        mov     %rax, %fs:0x7ffffff0
.Lcs6_start:
        TICKS
        mov     E_START(%r10), %rcx
        not     %rcx
        lea     1(%rax,%rcx), %rcx
        mov     T_LEAST(%r11), %rdx
        lea     (%rdx,%rcx), %rcx
        not     %rcx
        bswap   %rcx
        movzbl  %cl, %ecx
        jrcxz   3f
        jmp     .Lleave_slow
3:      mov     E_RET(%r10), %rax
        mov     %rax, (%rsp)
        lea     -E_SIZE(%r10), %rcx
        mov     %rcx, T_TOP(%r11)
.Lcs6_end:
        lahf
        seto    %al
        incq    T_FILTERED(%r11)        /* one instruction: a handler counts here too */
        add     $127, %al
        sahf
        movq    $0, E_START(%r10)
        movq    $0, E_SLOT(%r10)
        RESTORE
        ret

        /* struct atf_registers at rsp; \at: from its end to the frame's return slot */
        .macro SAVE_ALL at
        lea     -R_SIZE(%rsp), %rsp
        mov     %rdi, (%rsp)
        mov     %rsi, 8(%rsp)
        mov     %rdx, 16(%rsp)
        mov     %rcx, 24(%rsp)
        mov     %r8, 32(%rsp)
        mov     %r9, 40(%rsp)
        mov     %rbp, 48(%rsp)
        mov     %rax, R_RAX(%rsp)
        mov     %r10, 72(%rsp)
        mov     %r11, 80(%rsp)
        mov     %rbx, 88(%rsp)
        pushfq
        popq    R_FLAGS(%rsp)
        movq    %xmm0, R_XMM(%rsp)
        movq    %xmm1, R_XMM+8(%rsp)
        movq    %xmm2, R_XMM+16(%rsp)
        movq    %xmm3, R_XMM+24(%rsp)
        movq    %xmm4, R_XMM+32(%rsp)
        movq    %xmm5, R_XMM+40(%rsp)
        movq    %xmm6, R_XMM+48(%rsp)
        movq    %xmm7, R_XMM+56(%rsp)
        lea     R_SIZE+\at(%rsp), %rax
        mov     %rax, 56(%rsp)
        mov     %rsp, %rdi
        mov     %rsp, %rbx
        and     $-16, %rsp
        cld
        .endm
        .macro RESTORE_ALL
        pushq   R_FLAGS(%rsp)
        popfq
        mov     (%rsp), %rdi
        mov     8(%rsp), %rsi
        mov     16(%rsp), %rdx
        mov     24(%rsp), %rcx
        mov     32(%rsp), %r8
        mov     40(%rsp), %r9
        mov     R_RAX(%rsp), %rax
        mov     72(%rsp), %r10
        mov     80(%rsp), %r11
        mov     88(%rsp), %rbx
        lea     R_SIZE(%rsp), %rsp
        .endm

        .balign 64
atf_hot_enter_details:
        SAVE_ALL 8
        call    *.Lenter_details_c(%rip)
        FROM_C
        test    %eax, %eax
        jnz     1f
        addq    $(STUB_BODY - STUB_RET_ENTER), R_SIZE(%rsp)
1:      RESTORE_ALL
        ret

        .balign 64
atf_hot_leave_details:
        lea     -8(%rsp), %rsp
        SAVE_ALL 0
        call    *.Lleave_details_c(%rip)
        FROM_C
        mov     %rax, R_SIZE(%rsp)
        RESTORE_ALL
        ret
