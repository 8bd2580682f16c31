# SPDX-License-Identifier: Apache-2.0
"""A protected guest for tests/bench/ft: two gemel-vmm, vmmft for their agents, witnesses outside."""
import json
import os
import signal
import socket
import struct
import subprocess
import time

from migrate_sides import Stamps
from vmm_report import end, remove, spawn, wait_for

UUID = "0f3c2b1a-0000-4000-8000-000000000002"
DISK = 4 << 20
CALM = ("--suspect", "2000")  # what is not about a fault is not to end in one, however busy this host is
TAPS = ("gft-p", "gft-t")
ADDRESS, MAC = "10.99.0.5", "52:54:00:aa:bb:cc"


def make_net():
    """A bridge with a tap for each side; in a network namespace of our own."""
    for line in ("link set lo up", "link add br0 type bridge", "addr add 10.99.0.1/24 dev br0", "link set br0 up",
                 *(line % tap for tap in TAPS for line in ("tuntap add dev %s mode tap", "link set %s master br0", "link set %s up")),
                 "neigh add %s lladdr %s dev br0 nud permanent" % (ADDRESS, MAC)):
        subprocess.run(["ip"] + line.split(), check=True)


class Pair:
    """`commit`: None: no twin. The guest runs when it is made, with its twin, if it has one."""

    def __init__(self, build, append, commit="verified", rom="tests/guest/pulse.rom", net=False, console=False, options=(), link=False, memory="16M", disk="mirrored"):
        self.build, self.rom, self.net, self.console, self.memory = build, rom, net, console, memory
        self.stamps = Stamps("debug")
        self.vms, self.ft, self.append, self.server = {}, None, append, None
        self.disk = disk  # mirrored; shared: a file; nbd: shared, and its server keeps old owners away
        remove("a.img", "b.img", "ft.out", "link.json", "p.sock", "t.sock", "p.console", "t.console")
        for name, image in ("p", "a.img"), ("t", "b.img"):
            if commit is None and name == "t":
                continue
            with open(image, "wb") as f:
                f.truncate(DISK)
            if disk == "nbd" and not self.server:
                self.serve()
            self.vms[name] = self.spawn(name, image)
        talk = ["disk-nbd", self.uri()] if disk == "nbd" else ["disk", "a.img"]
        subprocess.run([build + "/tests/kvm/vmmtalk", "p.sock", "1", "1", *talk, "start", "1"], check=True, capture_output=True)
        wait_for("the guest", lambda: self.stamps.seen(b"R" if "pulse" in rom else b"G"))
        if commit is not None:
            self.protect(commit, options, link)

    def uri(self):
        return "nbd+unix:///x?socket=%s/nbd.sock" % os.getcwd()

    def serve(self):
        remove("nbd.sock", "epochs/epoch-x")
        os.makedirs("epochs", exist_ok=True)
        open("epochs/gemel-epochs", "w").close()
        self.server = spawn(["nbdkit", "-f", "-U", "nbd.sock", "--filter=%s/storage/nbdkit-gemel-epoch-filter.so" % self.build, "file", "a.img",
                             "epochs=%s/epochs" % os.getcwd()])
        wait_for("nbdkit", lambda: os.path.exists("nbd.sock"))

    def spawn(self, name, image):
        at = "nbd=%s,epoch" % self.uri() if self.disk == "nbd" else "path=" + (image if self.disk == "mirrored" else "a.img")
        more = ["--nic", "tap=%s,mac=%s" % (TAPS["pt".index(name)], MAC)] if self.net else []
        more += ["--console", "console.sock"] if self.console and name == "p" else []
        vm = spawn([self.build + "/gemel-vmm", "--insecure-lab", "--uuid", UUID, "--memory", self.memory, "--firmware", self.build + "/" + self.rom,
                    "--append", self.append, "--console-log", name + ".console", "--debug-log", "/dev/stdout", "--log", name + ".log",
                    "--control", name + ".sock", "--disk", at + ",serial=pulse", *more], stdout=self.stamps.write)
        wait_for("control socket", lambda: os.path.exists(name + ".sock"))
        return vm

    def disks(self):
        return {"mirrored": ["--disk", "a.img:b.img"], "shared": ["--shared", "a.img"], "nbd": ["--shared", self.uri()]}[self.disk]

    def protect(self, commit, options, link):
        argv = [self.build + "/tests/kvm/vmmft", "p.sock", "t.sock", *self.disks(), "--commit", commit, "--for", "600", *(options or CALM)]
        if link:
            script = os.path.dirname(os.path.realpath(__file__)) + "/../kvm/ftlink.py"
            argv += ["--plain", "--link", "echo $$ >link.pid; exec python3 %s link.json --whole" % script]
        self.began = time.monotonic_ns()
        with open("ft.out", "w") as out:
            self.ft = spawn(argv, stdout=out)
        wait_for("its twin", lambda: self.said("primary", "on") or self.ft.poll() is not None)
        if not self.said("primary", "on") or self.ended():
            raise RuntimeError("no twin: " + "; ".join(line.get("text") or str(line) for line in self.lines()))
        self.protect_ms = (time.monotonic_ns() - self.began) / 1e6

    def lines(self):
        with open("ft.out") as f:
            return [json.loads(line) for line in f.read().split("\n") if line.endswith("}")]

    def said(self, who, state):
        return any(line.get("who") == who and line["state"] == state for line in self.lines())

    def ended(self):
        for line in self.lines():
            if "end" in line:
                return line["end"]
        return None

    def counters(self):
        return [line for line in self.lines() if "log_bytes" in line and "ms" in line]

    def fault(self, kind):
        if kind == "power-loss":
            self.vms["p"].kill()
        elif kind == "freeze":
            self.vms["p"].send_signal(signal.SIGSTOP)
        else:
            with open("link.pid") as f:
                os.kill(int(f.read()), signal.SIGUSR1)
        return time.monotonic_ns()

    def last_record(self, image="a.img"):
        """Newest record on a disk (tests/guest/README.md), and when it was looked at."""
        newest, now = 0, time.monotonic_ns()
        with open(image, "rb") as f:
            data = f.read()
        for at in range(0, len(data), 4096):
            magic, _, seq = struct.unpack_from("<4sIQ", data, at)
            if magic == b"GPLS":
                newest = max(newest, seq)
        return newest, now

    def close(self):
        if self.ft:
            end(self.ft)
        for vm in self.vms.values():
            if vm.poll() is None:
                vm.send_signal(signal.SIGCONT)
            end(vm)
        if self.server:
            end(self.server)
        if os.path.exists("link.pid"):
            os.unlink("link.pid")
        self.stamps.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


lost = []  # questions without an answer, of all that were asked: frames may be lost


def ask(count, gap_s):
    """Round trips in us of `count` questions to the guest, one after the other."""
    got = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        for i in range(count):
            began = time.monotonic_ns()
            s.sendto(b"GPUQ" + struct.pack("<I", i + 1), (ADDRESS, 7000))
            try:
                while struct.unpack_from("<4sI", s.recv(64))[1] != i + 1:
                    pass
            except TimeoutError:
                lost.append(i)
                if len(got) == 0 and i == 4:
                    raise RuntimeError("the guest does not answer") from None
                continue
            got.append((time.monotonic_ns() - began) / 1e3)
            time.sleep(gap_s)
    return got


def print_bytes(count):
    """Seconds that beat.rom takes for so many bytes, two exits each, as its console's reader sees it."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("console.sock")
        s.settimeout(60)
        time.sleep(0.2)
        began, n = time.monotonic(), 0
        s.sendall(b"b")
        while n < count:
            some = s.recv(65536)
            if not some:
                raise RuntimeError("the console closed after %d bytes" % n)
            n += len(some)
        return time.monotonic() - began
