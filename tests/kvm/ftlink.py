#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The channel between a primary and its twin, with a fault at one place of the log (vmmft --plain --link).

usage: ftlink.py REPORT [--at RECORD[:BYTE]] [--do WHAT] [--pid PID] [--whole]

Carries frames between descriptor 3 (primary) and 4 (twin). Each record of the log travels in a frame of its own (--whole: frames stay as they
are), so that a fault at BYTE (0: none of it came) of record RECORD (from 1) is a fault there and nowhere else. WHAT: kill or stop (of PID;
kill also closes both ways), cut-there (to the twin nothing more comes), cut-back (to the primary nothing more), cut, truncate (the twin sees an end),
corrupt (one bit of the frame), spoil (one bit of the record, in a frame whose checksum is right), drop, twice, swap (whole frames). --hashes page or sum: spoils the twin's first answer to a barrier, in a frame whose
checksum is right: a page that is none, or one bit of a sum. SIGUSR1: cut, now. REPORT gets one JSON line: the records that
passed, and when the fault was. --dump FILE: what the primary sends, as a seed for the fuzzer."""
import json
import os
import select
import signal
import socket
import struct
import sys
import time

HEADER, LOG, LOG_HEAD = 32, 48, 24
HASHES, HASHES_HEAD = 51, 64
NO_CRC, SUMMED_MAX = 0x8000, 4096  # pages go without a sum of their frame: this here is slow
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc = TABLE[(crc ^ b) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


class Link:
    def __init__(self):
        self.report = sys.argv[1]
        record, _, byte = option("--at", "0").partition(":")
        self.at, self.byte = int(record), int(byte or 0)
        self.what, self.pid = option("--do", ""), int(option("--pid", "0"))
        self.primary, self.twin = socket.socket(fileno=3), socket.socket(fileno=4)
        for s in self.primary, self.twin:
            s.setblocking(True)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.there = self.back = True  # which ways are open
        self.records, self.frames, self.fault_ns, self.held = 0, 0, 0, None
        self.buffer, self.dump = b"", option("--dump", None)
        self.back_buffer = b""
        self.hashes = option("--hashes", "")

    def send(self, to, data):
        try:
            to.sendall(data)
        except OSError:
            pass

    def frame(self, header, body):
        """One frame to the twin, numbered anew."""
        magic, kind, version = struct.unpack_from("<IHH", header)
        self.frames += 1
        bare = len(body) > SUMMED_MAX
        head = struct.pack("<IHHQIII", magic, kind, version | (NO_CRC if bare else 0), self.frames, len(body), 0, 0 if bare else crc32c(body))
        return head + struct.pack("<I", crc32c(head)) + body

    def fault(self, header, body):
        """At byte self.byte of the record in `body`. What is to be sent of it."""
        self.fault_ns = time.monotonic_ns()
        what, at = self.what, LOG_HEAD + self.byte
        if what == "drop":
            return b""
        if what == "spoil":
            at = min(at, len(body) - 1)
            return self.frame(header, body[:at] + bytes([body[at] ^ 1 << self.at % 8]) + body[at + 1:])
        data, at = self.frame(header, body), HEADER + at
        if what == "corrupt":
            at = min(at, len(data) - 1)
            return data[:at] + bytes([data[at] ^ 1 << self.at % 8]) + data[at + 1:]
        if what == "twice":
            return data + data
        if what == "swap":
            self.held = data
            return b""
        if what == "cut-back":
            self.back = False
            return data
        if what not in ("kill", "stop", "cut", "cut-there", "truncate"):
            raise ValueError(what)
        self.there = False
        self.back = what in ("cut-there", "truncate")
        self.send(self.twin, data[:at] if self.byte else b"")
        if what == "kill":
            os.kill(self.pid, signal.SIGKILL)
            os.close(self.primary.detach())
            os.close(self.twin.detach())
            self.end()
        if what == "stop":
            os.kill(self.pid, signal.SIGSTOP)
        if what == "truncate":
            self.twin.shutdown(socket.SHUT_WR)
        return b""

    def forward(self, header, body, record):
        if record:
            self.records += 1
        if record and self.records == self.at and self.what:
            data = self.fault(header, body)
        else:
            data = self.frame(header, body)
            if self.held and record:
                data, self.held = data + self.held, None
        if self.there and data:
            self.send(self.twin, data)

    def log(self, header, body):
        head, at = body[:LOG_HEAD], LOG_HEAD
        pieces = []
        while at < len(body):
            length = struct.unpack_from("<I", body, at)[0]
            pieces.append(body[at:at + length])
            at += length
        if "--whole" in sys.argv or not pieces:
            self.forward(header, body, bool(pieces))
            return
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            self.forward(header, (head if last else head[:16] + bytes(8)) + piece, True)

    def keep(self, kind, body):
        """As a seed of tests/fuzz/fuzz_ft_session."""
        if self.dump and kind >= LOG:
            with open(self.dump, "ab") as f:
                f.write((b"" if f.tell() else bytes(1)) + bytes([kind - LOG]) + struct.pack("<I", len(body))[:3] + body)

    def take(self, data):
        self.buffer += data
        while len(self.buffer) >= HEADER:
            kind, = struct.unpack_from("<H", self.buffer, 4)
            length, = struct.unpack_from("<I", self.buffer, 16)
            if len(self.buffer) < HEADER + length:
                return
            header, body = self.buffer[:HEADER], self.buffer[HEADER:HEADER + length]
            self.buffer = self.buffer[HEADER + length:]
            self.keep(kind, body)
            if kind == LOG:
                self.log(header, body)
            else:
                self.forward(header, body, False)

    def take_back(self, data):
        """From the twin, until its first answer to a barrier that tells of a page."""
        self.back_buffer += data
        while self.hashes and len(self.back_buffer) >= HEADER:
            kind, = struct.unpack_from("<H", self.back_buffer, 4)
            length, = struct.unpack_from("<I", self.back_buffer, 16)
            if len(self.back_buffer) < HEADER + length:
                return
            frame, self.back_buffer = self.back_buffer[:HEADER + length], self.back_buffer[HEADER + length:]
            if kind == HASHES and length > HASHES_HEAD:
                at = HASHES_HEAD + (7 if self.hashes == "page" else 8)
                body = bytearray(frame[HEADER:])
                body[at] ^= 1
                head = frame[:16] + struct.pack("<III", length, 0, crc32c(body))
                frame = head + struct.pack("<I", crc32c(head)) + bytes(body)
                self.fault_ns, self.hashes = time.monotonic_ns(), ""
            self.send(self.primary, frame)
        if not self.hashes:
            self.send(self.primary, self.back_buffer)
            self.back_buffer = b""

    def cut(self, *_):
        self.fault_ns = time.monotonic_ns()
        self.there = self.back = False

    def end(self, *_):
        with open(self.report + ".new", "w", encoding="ascii") as f:
            json.dump({"records": self.records, "fault_ns": self.fault_ns, "do": self.what}, f)
            f.write("\n")
        os.rename(self.report + ".new", self.report)
        os._exit(0)

    def run(self):
        signal.signal(signal.SIGUSR1, self.cut)
        signal.signal(signal.SIGTERM, self.end)
        open_ = [self.primary, self.twin]
        while open_:
            for s in select.select(open_, [], [])[0]:
                try:
                    data = s.recv(1 << 18)
                except OSError:
                    data = b""
                if not data:
                    open_.remove(s)
                    other = self.twin if s is self.primary else self.primary
                    if self.there if s is self.primary else self.back:
                        try:
                            other.shutdown(socket.SHUT_WR)
                        except OSError:
                            pass
                elif s is self.primary:
                    self.take(data)
                elif self.back:
                    self.take_back(data)
        self.end()


Link().run()
