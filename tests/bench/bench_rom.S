/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 64 KiB ROMs for tests/bench/vmm; both speak on the debug port (0x402), first byte 'E'.
 *
 * exits.rom: exits to the VMM as fast as they go, for ever. One after the other 16 rounds of 2,048 reads of the 16550's line status
 * (port 0x3FD), with a 'p' after each round, then as many 32-bit reads at 0xFEB00000 (virtio-mmio slot 0, or a place where nobody
 * answers) with an 'm'.
 *
 * fill.rom (-DFILL): writes its own address into each page from 16 to 976 MiB, says 'F', then reads them again for ever: a '.'
 * after each 64 pages, an 'X' for a page that has something else in it.
 */
#define FIRST (16 << 20)
#define END   (976 << 20)
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
#ifdef FILL
    mov $0x402, %edx
    mov $FIRST, %edi
5:  mov %edi, (%edi)
    add $4096, %edi
    cmp $END, %edi
    jne 5b
    mov $'F', %al
    out %al, %dx
6:  mov $FIRST, %edi
7:  mov $64, %ecx
8:  cmp %edi, (%edi)
    je 9f
    mov $'X', %al
    out %al, %dx
9:  add $4096, %edi
    dec %ecx
    jnz 8b
    mov $'.', %al
    out %al, %dx
    cmp $END, %edi
    jne 7b
    jmp 6b
#else
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
#endif

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
