"""What the kernel counted while a cell was measured: numbers that stand beside a latency and may
explain it. Of all CPUs, and of the host and its containers together. Reads only.
"""
from pathlib import Path

TCP = {
    "Tcp": ["RetransSegs"],
    "TcpExt": ["TCPTimeouts", "TCPBacklogDrop", "ListenDrops"],
}


def read(pids):
    """Since the boot. `pids`: a process in each of the containers' network namespaces."""
    nets = [Path("/proc/self/net"), *(Path(f"/proc/{pid}/net") for pid in pids)]
    return {
        "softnet": softnet(),
        "ksoftirqd": ksoftirqd(),
        "tcp": tcp(nets),
        "device_drops": sum(device_drops(net) for net in nets),
        "net_rx_runs": net_rx_runs(),
    }


def softnet():
    """Per CPU. Dropped: the backlog was full. Squeezed: net_rx_action had to stop with work left."""
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    rows = [[int(field, 16) for field in line.split()[:3]] for line in lines]
    return {key: list(values) for key, values in zip(("processed", "dropped", "squeezed"), zip(*rows))}


def ksoftirqd():
    """Per CPU; a wake-up is counted when it goes back to sleep."""
    cpu_ms, wait_ms, wakeups = [], [], []
    for process in threads():
        run, wait, _ = (process / "schedstat").read_text().split()
        cpu_ms.append(int(run) / 1e6)
        wait_ms.append(int(wait) / 1e6)
        status = (process / "status").read_text()
        wakeups.append(int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0]))
    return {"cpu_ms": cpu_ms, "wait_ms": wait_ms, "wakeups": wakeups}


def threads(found=[]):
    """Those of the kernel, in the order of the CPUs; they stay."""
    if not found:
        names = ((path.parent, path.read_text()) for path in Path("/proc").glob("[0-9]*/comm"))
        mine = [(name, path) for path, name in names if name.startswith("ksoftirqd/")]
        found.extend(path for _, path in sorted(mine))
    return found


def tcp(nets):
    sums = {key: 0 for keys in TCP.values() for key in keys}
    for net in nets:
        for file in ("snmp", "netstat"):
            lines = (net / file).read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2]):
                kind, _, names = names.partition(":")
                row = dict(zip(names.split(), values.split()[1:]))
                for key in TCP.get(kind, []):
                    sums[key] += int(row.get(key, 0))
    return sums


def device_drops(net):
    """Of both directions of all devices there."""
    return sum(received[3] + sent[3] for received, sent in devices(net).values())


def devices(net):
    """Name to the eight numbers of what was received, and of what was sent."""
    found = {}
    for line in (net / "dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        numbers = [int(n) for n in numbers.split()]
        found[name.strip()] = (numbers[:8], numbers[8:])
    return found


def net_rx_runs():
    lines = Path("/proc/softirqs").read_text().splitlines()
    row = next(line.split() for line in lines if line.strip().startswith("NET_RX:"))
    return sum(map(int, row[1:]))


def since(before, after):
    """The difference, number by number."""
    if isinstance(after, dict):
        return {key: since(before[key], after[key]) for key in after}
    if isinstance(after, list):
        return [since(b, a) for b, a in zip(before, after, strict=True)]
    return round(after - before, 3)
