"""What the network's softirqs do, as the kernel counts it: over all CPUs, in user-visible files and one
tracepoint. Not for a run that is timed: a tracepoint costs."""
import json
import re
from pathlib import Path

from clock import Wall
from machine import WORK

# Each packet put into a CPU's backlog, from where another softirq takes it.
EVENT = Path("/sys/kernel/tracing/events/net/netif_rx")
KEYS = ("netif_rx", "NET_RX", "NET_TX", "processed", "dropped", "time_squeeze")


def read():
    counts = {"netif_rx": enqueued()}
    for line in Path("/proc/softirqs").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() in KEYS:
            counts[name.strip()] = sum(map(int, numbers.split()))
    cpus = [line.split() for line in Path("/proc/net/softnet_stat").read_text().splitlines()]
    for column, name in enumerate(("processed", "dropped", "time_squeeze")):
        counts[name] = sum(int(cpu[column], 16) for cpu in cpus)
    return counts


def enqueued():
    return int(re.search(r"Hits: (\d+)", (EVENT / "hist").read_text())[1])


class Counters(Wall):
    """A clock that counts softirqs, too, from now() to since(). Workloads ask in processes of their own,
    so what was counted is in a file."""

    file = WORK / "softirqs.json"

    def __init__(self):
        (EVENT / "trigger").write_text("hist:keys=common_type")

    def now(self):
        return *super().now(), read()

    def since(self, start):
        after = read()
        counted = {key: after[key] - start[2][key] for key in KEYS}
        self.file.write_text(json.dumps(counted))
        return super().since(start)

    def last(self):
        return json.loads(self.file.read_text())

    def close(self):
        (EVENT / "trigger").write_text("!hist:keys=common_type")
