/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 64 KiB real-mode ROM for the tests of gemel-vmm. First byte on the debug port: 'G'; then "beat\n" on the serial port. The
 * 8254 ticks at 100 Hz: a '.' on the debug port for each. A key from the serial port is echoed, and
 *   q  powers off (PM1a)       r  resets (0xCF9)          t  triple-faults
 *   z  halts for good (cli)    s  computes without exits  b  prints 100,000 bytes
 *   o  writes strings of 64 KiB to an unused port for ever (rep outsb)
 *   p  panics 1000 times: pvpanic's port (machine standard)
 *   e  prints the epoch of fw_cfg as 16 hex digits and a newline
 */
    .code16
    .section .text
    .globl start
start:
#ifdef FAULT_AT_ONCE
    jmp triple
#endif
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %sp
    mov $0x402, %dx
    mov $'G', %al
    out %al, %dx

    /* Vectors: 0x20 timer, 0x24 serial; everything else is not expected. */
    movw $tick, 0x80
    movw %cs, 0x82
    movw $key, 0x90
    movw %cs, 0x92

    /* 8259 pair: base 0x20 and 0x28, all masked but IRQ 0 and 4. */
    mov $0x11, %al
    out %al, $0x20
    out %al, $0xA0
    mov $0x20, %al
    out %al, $0x21
    mov $0x28, %al
    out %al, $0xA1
    mov $4, %al
    out %al, $0x21
    mov $2, %al
    out %al, $0xA1
    mov $1, %al
    out %al, $0x21
    out %al, $0xA1
    mov $0xEE, %al
    out %al, $0x21
    mov $0xFF, %al
    out %al, $0xA1

    /* 16550: 8n1, OUT2, interrupt on received data. */
    mov $0x3FB, %dx
    mov $3, %al
    out %al, %dx
    mov $0x3FC, %dx
    mov $0x0B, %al
    out %al, %dx
    mov $0x3F9, %dx
    mov $1, %al
    out %al, %dx

    mov $banner, %si
next:
    mov %cs:(%si), %al
    inc %si
    test %al, %al
    jz ready
    call put
    jmp next
ready:
    /* 8254 channel 0, mode 2, 100 Hz. */
    mov $0x34, %al
    out %al, $0x43
    mov $(11932 & 0xFF), %al
    out %al, $0x40
    mov $(11932 >> 8), %al
    out %al, $0x40
idle:
    sti
    hlt
    jmp idle

put:
    push %dx
    mov $0x3F8, %dx
    out %al, %dx
    pop %dx
    ret

tick:
    push %ax
    push %dx
    mov $0x402, %dx
    mov $'.', %al
    out %al, %dx
    mov $0x20, %al
    out %al, $0x20
    pop %dx
    pop %ax
    iret

key:
    push %ax
    push %dx
more:
    mov $0x3FD, %dx
    in %dx, %al
    test $1, %al
    jz done
    mov $0x3F8, %dx
    in %dx, %al
    call put
    cmp $'q', %al
    je poweroff
    cmp $'r', %al
    je reset
    cmp $'t', %al
    je triple
    cmp $'z', %al
    je dead
    cmp $'s', %al
    je spin
    cmp $'b', %al
    je bulk
    cmp $'e', %al
    je epoch
    cmp $'p', %al
    je panic
    cmp $'o', %al
    je strings
    jmp more
done:
    mov $0x20, %al
    out %al, $0x20
    pop %dx
    pop %ax
    iret

poweroff:
    mov $0x604, %dx
    mov $0x2000, %ax
    out %ax, %dx
dead:
    cli
    hlt
    jmp dead
reset:
    mov $0xCF9, %dx
    mov $6, %al
    out %al, %dx
    jmp dead
triple:
    /* Protected mode with an empty IDT: the first fault cannot be delivered, nor can the next. */
    lgdtl %cs:flat_gdt_ptr
    lidtl %cs:no_idt
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $8, $(0xF0000 + in_flat)
    .code32
in_flat:
    ud2
    .code16
spin:
    mov $0x20, %al
    out %al, $0x20
    sti
1:  inc %eax
    jmp 1b
strings:
    mov $0x20, %al
    out %al, $0x20
    sti
6:  xor %si, %si
    mov $0xFFFF, %cx
    mov $0x80, %dx
    rep outsb
    jmp 6b
panic:
    mov $1000, %cx
    mov $0x505, %dx
    mov $1, %al
7:  out %al, %dx
    loop 7b
    jmp more
bulk:
    mov $100000, %ecx
2:  mov $'x', %al
    call put
    dec %ecx
    jnz 2b
    jmp more

/* Looks through the fw_cfg directory (key 0x19: count, then 64-byte entries, big endian) for the epoch. */
epoch:
    push %bx
    push %cx
    push %si
    mov $0x510, %dx
    mov $0x19, %ax
    out %ax, %dx
    mov $0x511, %dx
    in %dx, %al
    in %dx, %al
    in %dx, %al
    in %dx, %al
    movzbw %al, %cx         /* number of files */
file:
    jcxz 9f
    push %cx
    in %dx, %al             /* size */
    in %dx, %al
    in %dx, %al
    in %dx, %al
    in %dx, %al             /* key */
    mov %al, %bh
    in %dx, %al
    mov %al, %bl
    in %dx, %al
    in %dx, %al
    mov $epoch_name, %si
    mov $56, %cx
    mov $0, %ah             /* differences */
name:
    in %dx, %al
    xor %cs:(%si), %al
    or %al, %ah
    inc %si
    loop name
    pop %cx
    dec %cx
    test %ah, %ah
    jnz file
    mov $0x510, %dx
    mov %bx, %ax
    out %ax, %dx
    mov $0x511, %dx
    mov $8, %cx
    mov $0x6F08, %si        /* little endian: digits from the last byte back */
3:  in %dx, %al
    dec %si
    mov %al, (%si)
    loop 3b
    mov $8, %cx
4:  mov (%si), %al
    shr $4, %al
    call digit
    mov (%si), %al
    and $15, %al
    call digit
    inc %si
    loop 4b
9:  mov $10, %al
    call put
    pop %si
    pop %cx
    pop %bx
    jmp more
digit:
    add $'0', %al
    cmp $'9', %al
    jbe 5f
    add $('a' - '9' - 1), %al
5:  call put
    ret

banner:
    .asciz "beat\n"
epoch_name:
    .ascii "opt/gemel/epoch"
    .fill 56 - 15, 1, 0
    .balign 8
no_idt:
    .word 0
    .long 0
    .balign 8
flat_gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF    /* code, accessed already: the ROM cannot be written */
flat_gdt_ptr:
    .word flat_gdt_ptr - flat_gdt - 1
    .long 0xF0000 + flat_gdt

    .org 0xFFF0
    .byte 0xE9
    .word start - (. + 2)
    .org 0x10000, 0
