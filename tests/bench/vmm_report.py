# SPDX-License-Identifier: Apache-2.0
"""Lines of JSON as doc/bench.md describes them, and what every part of tests/bench/vmm needs around a process."""
import json
import os
import statistics
import subprocess
import sys
import time

children = []


def rounded(value):
    return round(value, 3 if abs(value) < 10 else 1)


def report(case, metric, unit, ours, peer=None, peer_values=(), **more):
    """One line: the median of `ours`, and with a peer its median and the ratio of the two."""
    value = statistics.median(ours)
    line = {"bench": "vmm", "case": case, "metric": metric, "unit": unit, "value": rounded(value)}
    if peer and peer_values:
        other = statistics.median(peer_values)
        line.update(peer=peer, peer_value=rounded(other), ratio=round(value / other, 2) if other else None)
    line.update(n=len(ours), min=rounded(min(ours)), max=rounded(max(ours)), load=round(os.getloadavg()[0], 1), **more)
    print(json.dumps(line), flush=True)


def say(text):
    print("# " + text, file=sys.stderr, flush=True)


def wait_for(what, condition, seconds=10.0, pause=0.001):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("timed out: " + what)
        time.sleep(pause)


def spawn(argv, **more):
    p = subprocess.Popen(argv, **more)
    children.append(p)
    return p


def end(p):
    p.kill()
    p.wait()
    if p.stdout:
        p.stdout.close()
    if p in children:
        children.remove(p)


def end_all():
    for p in list(children):
        end(p)


def remove(*names):
    for name in names:
        if os.path.exists(name):
            os.unlink(name)


def own_memory_kib(pid, guest):
    """PSS of a process in KiB without mappings whose line has one of the words `guest` in it; and that of those."""
    pss, ram, inside = 0, 0, False
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            first = line.split(" ", 1)[0]
            if not first.endswith(":"):
                inside = any(word in line for word in guest)
            elif first == "Pss:" and inside:
                ram += int(line.split()[1])
            elif first == "Pss:":
                pss += int(line.split()[1])
    return pss, ram
