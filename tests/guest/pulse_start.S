/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse: reset vector, real mode to long mode, interrupt stubs, and the tables the CPU needs. All tables are complete:
 * accessed and dirty bits are set, so that no CPU and no emulator ever writes to them. The page tables are copied to RAM
 * all the same: with nested paging each look at one counts as a write of it (AMD APM 2, 15.25.5), which a ROM refuses.
 */
#define ROM_SHIFT 0x80000000            /* physical address - link address */
#define ROM_VIEW_HIGH16 0x7fff          /* link address of .vectors is 0x7fff0000 */

    .macro copy from, to, entries       /* 8 bytes each, from ROM, before paging */
    movl $(\from + ROM_SHIFT), %esi
    movl $(\to), %edi
    movl $(\entries * 2), %ecx
    rep movsl
    .endm

    /* Reset: CS base 0xFFFF0000, IP 0xFFF0 -------------------------------------------------------- */
    .section .reset, "ax"
    .code16
    .globl reset_vector
reset_vector:
    jmp start16

    .section .start16, "ax"
    .code16
start16:
    cli
    cld
    movw $0x402, %dx                    /* sign of life before anything can go wrong */
    movb $'P', %al
    outb %al, %dx
    lgdtl %cs:(gdt_pointer - 0x7fff0000)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $(start32 + ROM_SHIFT)

    .code32
start32:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl %cr4, %eax
    orl $0x20, %eax                     /* PAE */
    movl %eax, %cr4
    copy pml4, pulse_pml4, 1
    copy pdpt, pulse_pdpt, 4
    copy directory_low, pulse_directories, 512
    copy directory_view, pulse_directories+1023*8, 1
    copy directory_top, pulse_directories+2032*8, 16
    movl $pulse_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              /* EFER.LME */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    andl $0x9fffffff, %eax              /* caches on */
    movl %eax, %cr0
    ljmpl $0x18, $(start64 + ROM_SHIFT)

    .code64
start64:
    movl $start64_low, %eax
    jmp *%rax
start64_low:
    movl $stack_top, %esp
    lidt idt_pointer
    xorl %eax, %eax
    movl $bss_start, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    shrl $3, %ecx
    rep stosq
    xorl %ebp, %ebp
    call pulse_main
1:  cli
    hlt
    jmp 1b

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            /* 0x08 code, 32 bit, accessed */
    .quad 0x00cf93000000ffff            /* 0x10 data, accessed */
    .quad 0x00af9b000000ffff            /* 0x18 code, 64 bit, accessed */
gdt_end:
    .word 0
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt + ROM_SHIFT
    .balign 8
    .word 0, 0, 0
idt_pointer:
    .word idt_end - idt - 1
    .quad idt

    /* Interrupt and exception stubs, 16 bytes each ------------------------------------------------- */
    .section .vectors, "ax"
    .code64
    .globl vectors
vectors:
vector = 0
    .rept 32
    .balign 16
    /* 8, 10-14, 17, 21, 29 and 30 push an error code themselves */
    .ifeq (vector - 8) * (vector - 10) * (vector - 11) * (vector - 12) * (vector - 13) * (vector - 14) * (vector - 17) * (vector - 21) * (vector - 29) * (vector - 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp exception
vector = vector + 1
    .endr
    .balign 16
    jmp irq_timer                       /* IRQ 0 */
irq = 1
    .rept 15
    .balign 16
    pushq %rdi
    movl $irq, %edi
    jmp irq_common
irq = irq + 1
    .endr
    .balign 16

exception:                              /* stack: vector, error code, rip, cs, rflags, rsp, ss */
    popq %rdi
    popq %rsi
    movq (%rsp), %rdx
    movq %cr2, %rcx
    andq $-16, %rsp
    call pulse_exception
1:  cli
    hlt
    jmp 1b

irq_timer:
    pushq %rax
    incl pulse_ticks
    incl pulse_wakes
    cmpb $0, pulse_tick_to_debug
    je 1f
    pushq %rdx
    movw $0x402, %dx
    movb $'.', %al
    outb %al, %dx
    popq %rdx
1:  movb $0x20, %al
    outb %al, $0x20
    popq %rax
    iretq

irq_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    cld
    call pulse_irq
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popq %rdi
    iretq

    /* IDT: gate offsets are known to the assembler because .vectors is linked at a fixed address ---- */
    .section .rodata
    .balign 16
idt:
vector = 0
    .rept 48
    .word vector * 16
    .word 0x18
    .word 0x8e00                        /* present, interrupt gate */
    .word ROM_VIEW_HIGH16
    .long 0, 0
vector = vector + 1
    .endr
idt_end:

    /*
     * Page tables, as they are in RAM: identity in 2 MiB pages for the first GiB and the last 32 MiB below 4 GiB, and the
     * view of the ROM at 2 GiB - 2 MiB. Each entry costs a microsecond where KVM interprets; pulse_main maps more when it
     * needs more.
     */
    .section .pagetables, "a"
    .balign 8
pml4:
    .quad pulse_pdpt + 0x23             /* present, writable, accessed */
pdpt:
entry = 0
    .rept 4
    .quad pulse_directories + entry * 4096 + 0x23
entry = entry + 1
    .endr
directory_low:
entry = 0
    .rept 512
    .quad entry * 0x200000 + 0xe3       /* present, writable, accessed, dirty, 2 MiB */
entry = entry + 1
    .endr
directory_view:
    .quad 0xffe000e3
directory_top:
entry = 2032
    .rept 16
    .quad entry * 0x200000 + 0xe3
entry = entry + 1
    .endr

    .section .bss.noinit, "aw", @nobits
    .balign 4096
pulse_pml4:
    .skip 4096
pulse_pdpt:
    .skip 4096
    .globl pulse_directories
pulse_directories:
    .skip 4 * 4096

    .section .note.GNU-stack, "", @progbits
