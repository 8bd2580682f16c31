/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 64 KiB ROM for tests/bench/vmm: exits to the VMM as fast as they go, for ever. One after the other 16 rounds of 2,048 reads of
 * the 16550's line status (port 0x3FD), with a 'p' on the debug port (0x402) after each round, then as many 32-bit reads at
 * 0xFEB00000 (virtio-mmio slot 0, or a place where nobody answers) with an 'm'. First byte: 'E'.
 */
    .code16
    .section .text
    .globl start
start:
    cli
    mov $0x402, %dx
    mov $'E', %al
    out %al, %dx
    lgdtl %cs:gdt_pointer
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $8, $(0xF0000 + flat)
    .code32
flat:
    mov $16, %ax
    mov %ax, %ds
again:
    mov $16, %ebx
1:  mov $128, %ecx
    mov $0x3FD, %edx
2:
    .rept 16
    in %dx, %al
    .endr
    dec %ecx
    jnz 2b
    mov $0x402, %edx
    mov $'p', %al
    out %al, %dx
    dec %ebx
    jnz 1b
    mov $16, %ebx
    mov $0xFEB00000, %esi
3:  mov $128, %ecx
4:
    .rept 16
    mov (%esi), %eax
    .endr
    dec %ecx
    jnz 4b
    mov $0x402, %edx
    mov $'m', %al
    out %al, %dx
    dec %ebx
    jnz 3b
    jmp again

    .balign 8
gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF    /* accessed already: the ROM cannot be written */
    .quad 0x00CF93000000FFFF
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long 0xF0000 + gdt

    .org 0xFFF0
    .byte 0xE9
    .word start - (. + 2)
    .org 0x10000, 0
