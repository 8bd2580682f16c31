# SPDX-License-Identifier: Apache-2.0
"""The two sides of tests/bench/vmm: gemel-vmm and QEMU, started the same way on the same ROM, the debug port (0x402) on a pipe."""
import json
import os
import shutil
import socket
import subprocess
import time

from vmm_report import remove, spawn, wait_for

GUEST_MEMORY = ("memfd:gemel-ram", "memfd:memory-backend-memfd")


class Ours:
    """gemel-vmm, sandboxed as always."""

    def __init__(self, build, machine):
        self.build, self.machine, self.name = build, machine, machine
        self.talk_program = build + "/tests/kvm/vmmtalk"

    def start(self, rom, *args, memory="64M", tag="o", run=True, text="", nic=None):
        """The process and when it was begun (CLOCK_MONOTONIC, ns). With run=False it waits for START on its control socket."""
        self.socket = tag + ".sock"
        remove(self.socket)
        argv = [self.build + "/gemel-vmm", "--memory", memory, "--machine", self.machine, "--firmware", rom, "--log",
                tag + ".log", "--debug-log", "/dev/stdout", *args]
        argv += ["--run"] if run else ["--control", self.socket]
        argv += ["--append", text] if text else []
        argv += ["--nic", "tap=%s,mac=%s" % nic] if nic else []
        begin = time.monotonic_ns()
        return spawn(argv, stdout=subprocess.PIPE), begin

    def talk(self, *words):
        wait_for("control socket", lambda: os.path.exists(self.socket))
        return subprocess.run([self.talk_program, self.socket, "1", "1", *words], check=True, capture_output=True,
                              text=True).stdout

    def save(self, path):
        self.talk("freeze", "save", path)

    def resume(self, rom, path, memory):
        """As start; it goes on from the file that save made."""
        p, begin = self.start(rom, memory=memory, tag="r", run=False)
        self.talk("restore", path, "start", "5")
        return p, begin


class Qemu:
    """Debian's QEMU with KVM and its own seccomp list."""

    def __init__(self, machine):
        self.machine = self.name = machine

    def start(self, rom, *args, memory="64M", tag="q", text="", nic=None, **_):
        options = {"microvm": "microvm,pic=on,pit=on,rtc=on,isa-serial=on,acpi=off", "q35": "q35"}[self.machine]
        self.socket = tag + ".qmp"
        remove(self.socket)
        argv = ["qemu-system-x86_64", "-accel", "kvm", "-machine", options + ",memory-backend=ram", "-object",
                "memory-backend-memfd,id=ram,size=" + memory, "-m", memory, "-bios", rom, "-nodefaults",
                "-no-user-config", "-display", "none", "-sandbox", "on", "-global", "virtio-mmio.force-legacy=false",
                "-chardev", "stdio,id=d,signal=off", "-device", "isa-debugcon,iobase=0x402,chardev=d", "-qmp",
                "unix:%s,server=on,wait=off" % self.socket, *args]
        argv += ["-fw_cfg", "name=opt/gemel/cmdline,string=" + text] if text else []
        if nic:
            argv += ["-netdev", "tap,id=n,script=no,downscript=no,ifname=" + nic[0], "-device",
                     "virtio-net-device,netdev=n,mac=" + nic[1]]
        begin = time.monotonic_ns()
        return spawn(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL), begin

    def qmp(self, *commands):
        """Sends commands, each (name, arguments); the last one's answer."""
        with socket.socket(socket.AF_UNIX) as s:
            wait_for("QMP socket", lambda: s.connect_ex(self.socket) == 0)
            s.settimeout(60)
            f = s.makefile("rw")
            f.readline()
            for name, arguments in (("qmp_capabilities", {}), *commands):
                f.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                f.flush()
                answer = json.loads(f.readline())
                while "event" in answer:
                    answer = json.loads(f.readline())
                if "error" in answer:
                    raise RuntimeError("QEMU: %s: %s" % (name, answer["error"]["desc"]))
        return answer["return"]

    def save(self, path):
        self.qmp(("stop", {}), ("migrate-set-parameters", {"max-bandwidth": 1 << 40}),
                 ("migrate", {"uri": "exec:cat >" + path}))
        wait_for("migration to a file", lambda: self.qmp(("query-migrate", {}))["status"] == "completed", 60, 0.005)
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def resume(self, rom, path, memory):
        p, begin = self.start(rom, "-incoming", "exec:cat " + path, memory=memory, tag="i")
        wait_for("incoming state", lambda: self.qmp(("query-status", {}))["status"] != "inmigrate", 60, 0.005)
        self.qmp(("cont", {}))
        return p, begin


def have_qemu():
    return shutil.which("qemu-system-x86_64") is not None


def have_qsd():
    return shutil.which("qemu-storage-daemon") is not None
