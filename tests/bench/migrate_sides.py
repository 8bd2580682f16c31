# SPDX-License-Identifier: Apache-2.0
"""The two sides of tests/bench/migrate. Each keeps one guest that goes from process to process; both are seen by one kind of witness."""
import ctypes
import json
import mmap
import os
import signal
import socket
import statistics
import struct
import subprocess
import time
import uuid

from vmm_report import children, end, say, spawn, wait_for

RECORD = struct.Struct("<Qc")


stampers = []


class Stamps:
    """Stamps each byte that comes through a pipe with CLOCK_MONOTONIC, in a process of its own: the outside observer of a guest."""

    def __init__(self, name):
        self.path = name + ".stamps"
        read, self.write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(self.write)
            self.follow(read)
        os.close(read)
        self.pid = pid
        stampers.append(self)

    def follow(self, read):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            pass
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        out = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while some := os.read(read, 4096):
            now = time.monotonic_ns()
            os.write(out, b"".join(RECORD.pack(now, some[i:i + 1]) for i in range(len(some))))
        os._exit(0)

    def between(self, begin_ns, end_ns):
        with open(self.path, "rb") as f:
            got = f.read()
        return [r for r in RECORD.iter_unpack(got[:len(got) // RECORD.size * RECORD.size]) if begin_ns <= r[0] <= end_ns]

    def seen(self, byte):
        return os.path.exists(self.path) and any(r[1] == byte for r in self.between(0, 1 << 63))

    def close(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        os.close(self.write)
        os.unlink(self.path)
        stampers.remove(self)


def downtime_ms(stamps, who):
    ticks = [t for t, byte in stamps if byte == b"."]
    gaps = [b - a for a, b in zip(ticks, ticks[1:])]
    if len(gaps) < 10:
        raise RuntimeError("%s: the guest ticks no more, %d ticks seen" % (who, len(ticks)))
    return (max(gaps) - statistics.median(gaps)) / 1e6


def slowdown(stamps, before, r, byte):
    """Of the guest's work while it was moved and ran: 0 none, 0.5 half as fast."""
    seconds = max(0.001, (r["total_ms"] - r["downtime_ms"]) / 1000)
    count = sum(b == byte for _, b in stamps.between(r["begin_ns"], r["end_ns"]))
    rate = sum(b == byte for _, b in stamps.between(before["begin_ns"], before["end_ns"])) / before["seconds"]
    return 1 - count / seconds / rate if rate else 0.0


def cpu_s(p):
    """Of all threads of a process, ended ones too; ns resolution (the CPU-time clock of a process, clock_getcpuclockid(3))."""
    return time.clock_gettime(((~p.pid) << 3) | 2)


def warm(mib):
    """Free memory that is really there: a machine that is itself a VM may have given it back to its host, and whoever takes it next
    pays for that. Both sides begin with the same."""
    size = mib << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
        m.madvise(mmap.MADV_HUGEPAGE)
        at = ctypes.c_char.from_buffer(m)
        ctypes.memset(ctypes.addressof(at), 1, size)
        del at


class Side:
    def __init__(self, stamps, link):
        self.stamps, self.link, self.count, self.p = stamps, link, 0, None

    def pause(self):
        self.p.send_signal(signal.SIGSTOP)

    def wake(self):
        self.p.send_signal(signal.SIGCONT)
        time.sleep(0.3)

    def settle(self, seconds):
        time.sleep(seconds)

    def wait_filled(self):
        wait_for("filled memory of " + self.name, lambda: self.stamps.seen(b"R"), 180, 0.05)

    def idle(self, seconds):
        """What it costs when it is not moved."""
        begin, cpu = time.monotonic_ns(), cpu_s(self.p)
        time.sleep(seconds)
        end_ns = time.monotonic_ns()
        return {"begin_ns": begin, "end_ns": end_ns, "seconds": (end_ns - begin) / 1e9,
                "cpu_rate": (cpu_s(self.p) - cpu) / ((end_ns - begin) / 1e9)}

    def check(self, rate):
        """The guest counts its writes: a lost one is told on its console."""
        time.sleep(2 if rate else 0.2)
        for i in range(self.count):
            with open("%s%d.console" % (self.name, i)) as f:
                bad = [line for line in f if "MEMORY" in line or "PANIC" in line]
            if bad:
                raise RuntimeError("%s lost a write of the guest: %s" % (self.name, bad[0].strip()))

    def finish(self):
        end(self.p)
        self.stamps.close()
        for i in range(self.count):
            os.unlink("%s%d.console" % (self.name, i))


class Ours(Side):
    name = "ours"

    def __init__(self, build, stamps, link, streams):
        super().__init__(stamps, link)
        self.modes = ("plain", "tls", "zstd") if link.slow else ("plain", "tls")
        self.build, self.streams, self.vm = build, streams, str(uuid.uuid4())

    def spawn(self):
        i, self.count = self.count, self.count + 1
        sock = "%s%d.sock" % (self.name, i)
        p = spawn([self.build + "/gemel-vmm", "--insecure-lab", "--memory", self.memory, "--firmware",
                   self.build + "/tests/guest/pulse.rom", "--append", self.text, "--console-log", "%s%d.console" % (self.name, i),
                   "--debug-log", "/dev/stdout", "--log", "%s.log" % self.name, "--control", sock, "--uuid", self.vm,
                   "--instance", str(uuid.uuid4())], stdout=self.stamps.write)
        wait_for("control socket", lambda: os.path.exists(sock))
        return p, sock

    def begin(self, memory, text):
        self.memory, self.text = memory, text
        self.p, self.sock = self.spawn()
        subprocess.run([self.build + "/tests/kvm/vmmtalk", self.sock, "1", "1", "start", "1"], check=True, capture_output=True)

    def move(self, mode, downtime, *more):
        dest, sock = self.spawn()
        time.sleep(0.1)
        cpu = cpu_s(self.p) + cpu_s(dest)
        argv = [self.build + "/tests/kvm/vmmmove", self.sock, sock, "--streams", str(self.streams), "--downtime", str(downtime),
                *(["--plain"] if mode != "tls" else []), *(["--no-compress"] if mode != "zstd" else []),
                *self.link.ours(self.count - 1), *more]
        begin = time.monotonic_ns()
        out = subprocess.run(argv, stdout=subprocess.PIPE, text=True).stdout
        end_ns = time.monotonic_ns()
        answer = json.loads(out)
        if not answer["ok"]:
            with open("ours.log") as f:
                say("".join(f.readlines()[-12:]))
            raise RuntimeError("ours: " + answer["text"])
        _, _, usage = os.wait4(self.p.pid, 0)
        self.p.returncode = 0
        children.remove(self.p)
        cpu = usage.ru_utime + usage.ru_stime + cpu_s(dest) - cpu
        self.p, self.sock = dest, sock
        frozen = answer["text"].split("frozen for ")[1].split(" ms")[0]
        return {"begin_ns": begin, "end_ns": end_ns, "total_ms": answer["total_ms"], "mib": answer["sent"] / (1 << 20),
                "rounds": answer["rounds"], "cpu_s": cpu, "frozen_ms": float(frozen) + answer["gap_ms"], "text": answer["text"]}

    def check(self, rate):
        self.move("plain", 300, "--verify")  # not timed: it compares all memory, or fails
        super().check(rate)


class Qmp:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        wait_for("QMP socket", lambda: self.s.connect_ex(path) == 0)
        self.s.settimeout(60)
        self.f, self.events = self.s.makefile("rw"), []
        self.f.readline()
        self.ask("qmp_capabilities")

    def read(self):
        answer = json.loads(self.f.readline())
        if "event" in answer:
            self.events.append(answer["event"])
        return answer

    def ask(self, name, **arguments):
        self.f.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.f.flush()
        while True:
            answer = self.read()
            if "error" in answer:
                raise RuntimeError("QEMU: %s: %s" % (name, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]

    def wait_event(self, name):
        while name not in self.events:
            self.read()

    def close(self):
        self.f.close()
        self.s.close()


class Qemu(Side):
    name = "qemu"

    def __init__(self, build, stamps, link):
        super().__init__(stamps, link)
        self.modes = ("plain", "multifd", "multifd-zstd") if link.slow else ("plain", "multifd")
        self.rom = build + "/tests/guest/pulse.rom"

    def spawn(self, *more):
        i, self.count = self.count, self.count + 1
        p = spawn([*self.link.inside(i), "qemu-system-x86_64", "-accel", "kvm", "-machine",
                   "microvm,pic=on,pit=on,rtc=on,isa-serial=on,acpi=off", "-m", self.memory, "-bios", self.rom, "-nodefaults",
                   "-no-user-config", "-display", "none", "-sandbox", "on", "-global", "virtio-mmio.force-legacy=false",
                   "-chardev", "stdio,id=d,signal=off", "-device", "isa-debugcon,iobase=0x402,chardev=d", "-serial",
                   "file:%s%d.console" % (self.name, i), "-qmp", "unix:q%d.qmp,server=on,wait=off" % i, "-fw_cfg",
                   "name=opt/gemel/cmdline,string=" + self.text, *more],
                  stdin=subprocess.DEVNULL, stdout=self.stamps.write, stderr=subprocess.DEVNULL)
        return p, Qmp("q%d.qmp" % i)

    def begin(self, memory, text):
        self.memory, self.text = memory, text
        self.p, self.qmp = self.spawn()

    def move(self, mode, downtime):
        dest, qmp = self.spawn("-incoming", "defer")
        for q in (self.qmp, qmp):
            q.ask("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": mode.startswith("multifd")}])
            q.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": downtime, "multifd-channels": 2,
                                               "multifd-compression": "zstd" if mode == "multifd-zstd" else "none"})
        uri = "tcp:%s:%d" % (self.link.address(self.count - 1), self.link.port())
        qmp.ask("migrate-incoming", uri=uri)
        time.sleep(0.1)
        cpu = cpu_s(self.p) + cpu_s(dest)
        begin = time.monotonic_ns()
        self.qmp.ask("migrate", uri=uri)
        qmp.wait_event("RESUME")
        end_ns = time.monotonic_ns()
        wait_for("QEMU's own end", lambda: self.qmp.ask("query-migrate")["status"] in ("completed", "failed"), 10, 0.002)
        cpu = cpu_s(self.p) + cpu_s(dest) - cpu
        info = self.qmp.ask("query-migrate")
        if info["status"] != "completed":
            raise RuntimeError("QEMU's migration: %s" % info)
        self.qmp.close()
        end(self.p)
        self.p, self.qmp = dest, qmp
        return {"begin_ns": begin, "end_ns": end_ns, "total_ms": (end_ns - begin) / 1e6,
                "mib": info["ram"]["transferred"] / (1 << 20), "rounds": info["ram"]["dirty-sync-count"], "cpu_s": cpu,
                "frozen_ms": float(info["downtime"])}

    def finish(self):
        self.qmp.close()
        super().finish()
