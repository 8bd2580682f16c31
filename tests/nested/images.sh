# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the nested bed boots, made from installed packages. Read by tests/nested/run.

images_here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
images_kernel=$(find /boot -maxdepth 1 -name 'vmlinuz-*-cloud-amd64' 2>/dev/null | sort -V | tail -n 1)
images_firmware=/usr/share/seabios/bios-microvm.bin
images_release=${images_kernel#/boot/vmlinuz-}

# Says what is not installed; nothing when the bed can run.
images_missing() {
    local program missing=
    for program in qemu-system-x86_64:qemu-system-x86 cpio:cpio modprobe:kmod \
        busybox:busybox-static ip:iproute2 setpriv:util-linux mke2fs:e2fsprogs grub-mkimage:grub-common python3:python3 lz4:lz4; do
        PATH=$PATH:/sbin:/usr/sbin command -v "${program%:*}" >/dev/null || missing="$missing ${program#*:}"
    done
    [ -e /usr/lib/grub/i386-pc/boot.img ] || missing="$missing grub-pc-bin"
    [ -e "$images_firmware" ] || missing="$missing seabios"
    if [ -z "$images_kernel" ] || [ ! -d "/lib/modules/$images_release" ]; then
        missing="$missing linux-image-cloud-amd64"
    fi
    echo "${missing# }"
}

# images_modules ROOT MODULE...: copies modules and what they need, and writes the order of loading to ROOT/modules.
images_modules() {
    local root=$1 module path
    shift
    mkdir -p "$root/lib/modules"
    for module in "$@"; do
        /sbin/modprobe -S "$images_release" --show-depends "$module" || return 1
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$root/modules.paths"
    while read -r path; do
        cp "$path" "$root/lib/modules/" && echo "/lib/modules/$(basename "$path")" || return 1
    done <"$root/modules.paths" >"$root/modules"
    rm "$root/modules.paths"
}

# images_program ROOT PROGRAM PATH: a program with the libraries it asks for.
images_program() {
    local root=$1 program=$2 path=$3 lib
    mkdir -p "$root$(dirname "$path")" && cp -L "$program" "$root$path" || return 1
    ldd "$program" 2>/dev/null | grep -o '/[^ ]*' | while read -r lib; do
        [ -e "$root$lib" ] || { mkdir -p "$root$(dirname "$lib")" && cp -L "$lib" "$root$lib"; } || return 1
    done
}

images_busybox() { # ROOT
    local root=$1
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,etc,run,usr/bin,usr/sbin,sbin}
    cp "$(command -v busybox)" "$root/bin/busybox" && ln -s busybox "$root/bin/sh"
}

images_pack() { # ROOT FILE: an initramfs, not compressed: TCG unpacks slowly
    (cd "$1" && find . | cpio --quiet -o -H newc -R 0:0) >"$2"
}

# The guest's initrd. images_guest ROOT FILE
images_guest() {
    local root=$1
    images_busybox "$root" || return 1
    mkdir -p "$root/mnt"
    images_modules "$root" virtio_pci virtio_mmio virtio_blk virtio_net virtio_console virtio-rng virtio_balloon || return 1
    cp "$images_here/guest_init.sh" "$root/init" && chmod +x "$root/init" && images_pack "$root" "$2" && rm -rf "$root"
}

# Debian's full kernel has drivers that the cloud kernel has not. It is 400 MB when installed, so CI does without; a root with the
# unpacked package will do: FULL_KERNEL_ROOT=DIR. images_full DIR: into DIR/full, if it is there.
images_full() {
    local dir=$1 root=${FULL_KERNEL_ROOT:-} kernel driver core
    kernel=$(find "$root/boot" -maxdepth 1 -name 'vmlinuz-*-amd64' ! -name '*-cloud-*' ! -name '*-rt-*' | sort -V | tail -n 1)
    driver=$(find "$root/lib/modules/${kernel##*/vmlinuz-}/kernel" -name i6300esb.ko 2>/dev/null)
    core=$(find "$root/lib/modules/${kernel##*/vmlinuz-}/kernel" -name watchdog.ko 2>/dev/null)
    [ -n "$kernel" ] && [ -n "$driver" ] || return 0
    mkdir -p "$dir/full" && cp "$kernel" "$dir/full/vmlinuz" && images_busybox "$dir.full" || return 1
    # shellcheck disable=SC2086 # watchdog.ko may be built in
    cp $core "$driver" "$dir.full/" && cp "$images_here/watchdog_init.sh" "$dir.full/init" && chmod +x "$dir.full/init" &&
        images_pack "$dir.full" "$dir/full/initrd" && rm -rf "$dir.full"
}

# The kernel as an ELF file. Debian's is LZ4 in its bzImage, followed by its length: Documentation/arch/x86/boot.rst,
# payload_offset. Its symbols are not loaded and cost room here. images_vmlinux FILE
images_vmlinux() {
    python3 - "$images_kernel" <<'TEXT' | lz4 -dcq >"$1" && [ "$(head -c 4 "$1" | tail -c 3)" = ELF ]
import struct, sys
with open(sys.argv[1], "rb") as f:
    image = f.read()
setup = (image[0x1F1] + 1) * 512
start, length = struct.unpack_from("<II", image, 0x248)
sys.stdout.buffer.write(image[setup + start : setup + start + length - 4])
TEXT
}

# A disk that boots by itself: MBR, GRUB, ext4. No loop mount. images_disk SCRATCH INITRD FILE
images_disk() {
    local scratch=$1 initrd=$2 image=$3 grub=/usr/lib/grub/i386-pc
    mkdir -p "$scratch/boot/grub" && cp "$images_kernel" "$scratch/boot/vmlinuz" && cp "$initrd" "$scratch/boot/initrd" || return 1
    cat >"$scratch/boot/grub/grub.cfg" <<'TEXT'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
echo "GRUB reads its configuration"
linux /boot/vmlinuz console=ttyS0 quiet panic=-1 guest.ip=10.77.0.2/24 guest.peer=10.77.0.1
initrd /boot/initrd
boot
TEXT
    truncate -s 48M "$image" &&
        /sbin/mke2fs -q -F -t ext4 -O ^metadata_csum_seed,^orphan_file,^has_journal -d "$scratch" -E offset=1048576 "$image" 47M &&
        grub-mkimage -O i386-pc -o "$image.core" -p '(hd0,msdos1)/boot/grub' \
            biosdisk part_msdos ext2 linux normal configfile serial terminal echo boot &&
        python3 "$images_here/make_disk.py" "$image" $grub/boot.img "$image.core" && rm -rf "$scratch" "$image.core"
}

# The disk that is /guest inside: kernels, initrd, ROMs, a disk that boots. images_for_guests SCRATCH BUILDDIR FILE
images_for_guests() {
    local dir=$1 build=$2
    mkdir -p "$dir" && cp "$images_firmware" "$dir/" && cp "$images_kernel" "$dir/vmlinuz" && images_vmlinux "$dir/vmlinux" &&
        images_guest "$dir.guest" "$dir/initrd" && images_disk "$dir.disk" "$dir/initrd" "$dir/disk.img" || return 1
    images_full "$dir" || return 1
    cp "$build"/tests/guest/*.rom "$build"/tests/kvm/*.rom "$dir/" 2>/dev/null
    truncate -s 256M "$3" && /sbin/mke2fs -q -F -t ext4 -O ^has_journal -d "$dir" "$3" && rm -rf "$dir"
}

# An NBD server, and the library that gemel-vmm loads by its name, if they are installed. images_nbd ROOT
images_nbd() {
    local root=$1 plugin lib
    command -v nbdkit >/dev/null || return 0
    plugin=$(nbdkit --dump-config | sed -n 's/^plugindir=//p')/nbdkit-file-plugin.so
    lib=$(/sbin/ldconfig -p | sed -n 's/.*libnbd\.so\.0 .*x86-64.* => //p' | head -n 1)
    if [ -e "$plugin" ] && [ -e "$lib" ]; then
        images_program "$root" "$(command -v nbdkit)" /usr/bin/nbdkit && images_program "$root" "$plugin" "$plugin" &&
            images_program "$root" "$lib" "$lib"
    fi
}

# The machine that runs gemel-vmm. images_outer ROOT BUILDDIR
images_outer() {
    local root=$1 build=$2 p
    images_busybox "$root" || return 1
    images_modules "$root" kvm-amd tun bridge loop virtio_pci virtio_blk || return 1
    for p in gemel-vmm tests/guest/witness tests/kvm/vmmtalk tests/kvm/vmmmove tests/kvm/vmmft tests/kvm/copyram tests/kvm/steps; do
        [ ! -x "$build/$p" ] || images_program "$root" "$build/$p" "/usr/bin/$(basename "$p")" || return 1
    done
    images_nbd "$root" || return 1
    images_program "$root" "$(PATH=$PATH:/sbin:/usr/sbin command -v ip)" /usr/bin/ip-full || return 1
    cp "$images_here/init.sh" "$root/init" && chmod +x "$root/init"
    cp "$images_here/cases.sh" "$root/cases.sh"
}
