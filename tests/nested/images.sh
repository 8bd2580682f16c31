# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the nested bed boots, made from installed packages. Read by tests/nested/run.

images_here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
images_kernel=$(find /boot -maxdepth 1 -name 'vmlinuz-*-cloud-amd64' 2>/dev/null | sort -V | tail -n 1)
images_release=${images_kernel#/boot/vmlinuz-}

# Says what is not installed; nothing when the bed can run.
images_missing() {
    local program missing=
    for program in qemu-system-x86_64:qemu-system-x86 cpio:cpio modprobe:kmod busybox:busybox-static setpriv:util-linux; do
        PATH=$PATH:/sbin:/usr/sbin command -v "${program%:*}" >/dev/null || missing="$missing ${program#*:}"
    done
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
    ln -sf lib "$root/lib64.tmp" && rm "$root/lib64.tmp"
    cp "$(command -v busybox)" "$root/bin/busybox" && ln -s busybox "$root/bin/sh"
}

images_pack() { # ROOT FILE: an initramfs, not compressed: TCG unpacks slowly
    (cd "$1" && find . | cpio --quiet -o -H newc -R 0:0) >"$2"
}

# The machine that runs gemel-vmm. images_outer ROOT BUILDDIR
images_outer() {
    local root=$1 build=$2 p
    images_busybox "$root" || return 1
    images_modules "$root" kvm-amd tun bridge virtio_pci virtio_blk || return 1
    for p in gemel-vmm tests/guest/witness tests/kvm/vmmtalk; do
        [ ! -x "$build/$p" ] || images_program "$root" "$build/$p" "/usr/bin/$(basename "$p")" || return 1
    done
    mkdir -p "$root/guest"
    cp "$build"/tests/guest/*.rom "$build"/tests/kvm/*.rom "$root/guest/" 2>/dev/null
    cp "$images_here/init.sh" "$root/init" && chmod +x "$root/init"
    cp "$images_here/cases.sh" "$root/cases.sh"
}
