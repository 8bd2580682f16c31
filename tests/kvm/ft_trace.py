#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the outside saw of a protected pulse: usage: ft_trace.py [--reset] PRIMARY_CONSOLE [TWIN_CONSOLE]

The twin's console must go on where the primary's ended: bytes may come twice at the seam, none may be missing, other or torn. Records
count up by one, epochs do not go back. With --reset somebody resets the guest from outside: once, in the middle of a line. Prints the last record; what is wrong goes to stderr (exit 1)."""
import re
import sys

SEAM = 65536
LINE = re.compile(rb"seq=(\d+) epoch=(\d+)$")
OTHER = re.compile(rb"(pulse: [ -~]*|(done|reset|crash|hang|bye) seq=\d+.*|)$")


def wrong(text, cut, reset):
    """(why, last record); `cut`: its last line may be torn; `reset`: one line may be, by the guest's next start."""
    lines = text.replace(b"\r", b"").split(b"\n")
    torn = lines.pop()
    last, epoch, booted = 0, 0, False
    if torn and not cut:
        return "ends in the middle of a line: %r" % torn, 0
    for n, line in enumerate(lines):
        if b"MEMORY" in line or b"PANIC" in line or b"unclean" in line:
            return "the guest says: %r" % line, 0
        if OTHER.match(line):
            booted = booted or line == b"pulse: started"
            continue
        m = LINE.match(line)
        if not m and reset and line.endswith(b"pulse: started"):
            reset, booted = False, True
            continue
        if not m:
            return "no whole line: %r" % line, 0
        seq, now = int(m[1]), int(m[2])
        # A reset may come between a record and its line.
        if last and seq != last + 1 and not (booted and seq == last + 2):
            return "record %d comes after %d" % (seq, last), 0
        if now < epoch:
            return "epoch %d comes after %d" % (now, epoch), 0
        last, epoch, booted = seq, now, False
    return None, last


def main():
    files = []
    reset = sys.argv[1] == "--reset"
    for name in sys.argv[1 + reset:]:
        with open(name, "rb") as f:
            files.append(f.read())
    why, last = wrong(files[0], True, reset)
    if not why and len(files) > 1:
        a, b = files
        for k in range(min(len(a), len(b), SEAM) + 1):
            if a[len(a) - k:] == b[:k]:
                why, last = wrong(a + b[k:], True, reset)
                if not why:
                    print(last)
                    return
        why = "the twin's console does not go on where the primary's ended: %r, %r: %s" % (a[-60:], b[:60], why)
    if why:
        sys.exit(why)
    print(last)


main()
