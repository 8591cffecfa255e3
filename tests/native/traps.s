# Functions whose first five bytes cannot become a jump, and functions beside them that only look so. Each returns a number.
.macro function name
    .globl \name
    .type \name, @function
    .p2align 4, 0xCC
\name:
.endm
.macro inner name # as function, right where the code before it ends
    .globl \name
    .type \name, @function
\name:
.endm
.macro end name
    .size \name, . - \name
.endm
.text

# Another function jumps to the second instruction.
function jumped_into
    xor %eax, %eax
    add $11, %eax
    ret
end jumped_into
function jumps_there
    mov $20, %eax
    jmp jumped_into + 2
end jumps_there

# Another calls it.
function called_into
    nop
    mov $5, %eax
    ret
end called_into
function calls_there
    sub $8, %rsp
    call called_into + 1
    add $8, %rsp
    ret
end calls_there

# A loop of another function has its head there.
function counted
    xor %eax, %eax
1:  add %ecx, %eax
    .byte 0x05, 1, 0, 0, 0 # add $1, %eax
end counted
inner counts_on
    .byte 0x05, 2, 0, 0, 0
    loop 1b
    ret
end counts_on

# The head of another function's loop is its first byte: as good as a tail call.
function loop_begins
    mov $10, %ecx
    xor %eax, %eax
end loop_begins
inner loop_body
    .byte 0x05, 3, 0, 0, 0
end loop_body
inner loop_ends
    .byte 0x05, 1, 0, 0, 0
    loop loop_body
    ret
end loop_ends

# Its address is taken.
function addressed
    xor %eax, %eax
    add $30, %eax
    ret
end addressed
function takes_address
    mov $2, %eax
    lea addressed + 2(%rip), %rdx
    jmp *%rdx
end takes_address

# It stands in a table of whole addresses.
function in_addresses
    xor %eax, %eax
    add $40, %eax
    ret
end in_addresses
function by_addresses
    mov $3, %eax
    mov addresses + 8(%rip), %rdx
    jmp *%rdx
end by_addresses

# It stands in a table of offsets from the table: a switch whose first case is the head of the loop around it.
function in_offsets
    push %rbx
head_in_offsets:
    lea offsets(%rip), %rdx
    movslq (%rdx, %rdi, 4), %rax
    add %rdx, %rax
    mov $1, %edi
    jmp *%rax
case_in_offsets:
    mov $50, %eax
    pop %rbx
    ret
end in_offsets

# In a table of offsets from a label.
function in_label_offsets
    push %rbx
head_in_label_offsets:
    lea label_offsets(%rip), %rdx
    movslq (%rdx, %rdi, 4), %rax
    lea case_in_label_offsets(%rip), %rdx
    add %rdx, %rax
    mov $1, %edi
    jmp *%rax
case_in_label_offsets:
    mov $60, %eax
    pop %rbx
    ret
end in_label_offsets

# The jump stands behind data that swallows it when it is read as code.
function behind_data
    xor %eax, %eax
    add $70, %eax
    ret
end behind_data
function has_data
    mov $4, %eax
    jmp 1f
    .byte 0x48, 0xB8
1:  jmp behind_data + 2
    .quad 0, 0
end has_data

# Data that reads as a jump to nowhere, between two functions that are well.
function with_data
    mov data_within(%rip), %eax
    ret
data_within:
    .byte 80, 0, 0, 0, 0xE9, 0xFF, 0xFF, 0xFF, 0x7F, 0x0F, 0x05, 0x06, 0xE8
end with_data
function after_data
    mov $81, %eax
    ret
end after_data

# Shorter than five bytes: before padding, before code without a name, and where that is known by a branch or by the unwind table alone.
function short_alone
    mov %edi, %eax
    ret
end short_alone
function short_before_code
    mov %edi, %eax
    ret
end short_before_code
    mov $90, %eax
    ret
function short_before_target
    mov %edi, %eax
    ret
end short_before_target
5:  nop
    nop
    mov $91, %eax
    ret
function branches_behind
    jmp 5b
end branches_behind
function short_before_frame
    mov %edi, %eax
    ret
end short_before_frame
    .cfi_startproc
    nop
    nop
    mov $92, %eax
    ret
    .cfi_endproc

# Symbols that overlap, near and far, the second inside a frame.
function overlapped
    nop
    nop
    nop
inner overlaps
    lea 100(%rdi), %eax
    nop
    nop
    ret
end overlaps
end overlapped
function framed
    .cfi_startproc
    push %rbx
    .cfi_def_cfa_offset 16
    mov %edi, %ebx
    xor %eax, %eax
    jmp framed_middle
inner framed_middle
    lea 110(%rbx), %eax
    nop
    nop
    pop %rbx
    .cfi_def_cfa_offset 8
    ret
    .cfi_endproc
end framed_middle
end framed

# One place, two names.
function alias_one
inner alias_two
    lea 120(%rdi), %eax
    nop
    nop
    ret
end alias_two
end alias_one

.section .data.rel.ro, "aw"
    .p2align 3
addresses:
    .quad by_addresses, in_addresses + 2
.section .rodata
    .p2align 2
offsets:
    .long head_in_offsets - offsets, case_in_offsets - offsets
label_offsets:
    .long head_in_label_offsets - case_in_label_offsets, 0
.section .note.GNU-stack, "", @progbits
