#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_disk.py IMAGE BOOT_IMG CORE_IMG: GRUB into the MBR and the gap behind it, and one Linux partition from 1 MiB to the end.

What grub-bios-setup does, but on a file, without loop devices. Offsets: GRUB 2.06 include/grub/i386/pc/boot.h.
"""
import os
import struct
import sys

SECTOR = 512
PART_START = 2048  # sectors
KERNEL_SECTOR = 0x5C  # boot.img: where core.img is, 8 bytes
DRIVE_CHECK = 0x66  # boot.img: a jump that trusts the BIOS's drive number; overwritten for hard disks
BLOCKLIST = SECTOR - 12  # first sector of core.img: {start sector: 8, sectors: 2, segment: 2} of the rest
KERNEL_SEGMENT = 0x820


def main(image, boot_img, core_img):
    with open(boot_img, "rb") as f:
        boot = bytearray(f.read())
    with open(core_img, "rb") as f:
        core = bytearray(f.read())
    core += bytes(-len(core) % SECTOR)
    sectors = len(core) // SECTOR
    if len(boot) != SECTOR or sectors + 1 > PART_START:
        sys.exit(f"make_disk: {boot_img} has {len(boot)} bytes, {core_img} {sectors} sectors: that does not fit before the partition")
    struct.pack_into("<Q", boot, KERNEL_SECTOR, 1)
    struct.pack_into("<H", boot, DRIVE_CHECK, 0x9090)
    struct.pack_into("<QHH", core, BLOCKLIST, 2, sectors - 1, KERNEL_SEGMENT)
    total = os.path.getsize(image) // SECTOR
    no_chs = b"\xfe\xff\xff"
    entry = b"\x80" + no_chs + b"\x83" + no_chs + struct.pack("<II", PART_START, total - PART_START)
    boot[440:512] = struct.pack("<IH", 0x4C4D4547, 0) + entry + bytes(48) + b"\x55\xaa"
    with open(image, "r+b") as f:
        f.write(boot + core)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: make_disk.py IMAGE BOOT_IMG CORE_IMG")
    main(*sys.argv[1:])
