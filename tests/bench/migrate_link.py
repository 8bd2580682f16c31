# SPDX-License-Identifier: Apache-2.0
"""What lies between the two ends of tests/bench/migrate."""
import os
import socket
import subprocess


class Link:
    """Where the two ends of a move are: both on loopback, or each in a network namespace with a veth pair between them, as fast as it
    goes or with a token bucket (tbf) of `mbit` at each end."""

    def __init__(self, kind="lo"):
        self.net, self.kind = [], kind.replace(":", "-")
        kind, _, mbit = kind.partition(":")
        self.slow = mbit != ""
        if kind == "lo":
            return
        if kind != "veth":
            raise ValueError("no link: " + kind)
        self.net = ["gemel-bench-%d%s" % (os.getpid(), end) for end in "ab"]
        try:
            self.make(mbit)
        except BaseException:
            self.remove()
            raise

    def make(self, mbit):
        for i, net in enumerate(self.net):
            self.ip("netns", "add", net)
            self.ip("-n", net, "link", "set", "lo", "up")
        self.ip("-n", self.net[0], "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", self.net[1])
        for i, net in enumerate(self.net):
            self.ip("-n", net, "addr", "add", self.address(i) + "/24", "dev", "v%d" % i)
            self.ip("-n", net, "link", "set", "v%d" % i, "up")
            if self.slow:
                subprocess.run(["tc", "-n", net, "qdisc", "add", "dev", "v%d" % i, "root", "tbf", "rate", mbit + "mbit", "burst",
                                "256kb", "latency", "20ms"], check=True)

    def ip(self, *argv):
        subprocess.run(["ip", *argv], check=True)

    def address(self, i):
        return "10.78.0.%d" % (i % 2 + 1) if self.net else "127.0.0.1"

    def path(self, i):
        return "/run/netns/" + self.net[i % 2]

    def inside(self, i):
        """Before a command that runs at that end."""
        return ["nsenter", "--net=" + self.path(i), "--"] if self.net else []

    def port(self):
        if self.net:
            return 20000
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def ours(self, i):
        """Options of vmmmove, towards end i."""
        more = ["--source-net", self.path(i + 1), "--dest-net", self.path(i)] if self.net else []
        return ["--address", self.address(i), *more]

    def remove(self):
        for net in self.net:
            subprocess.run(["ip", "netns", "del", net], stderr=subprocess.DEVNULL)
        self.net = []
