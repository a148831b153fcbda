"""netperf's closed loops of one byte there and one back: over one connection, over one connection each,
by datagrams. Two runs, of which the difference counts, so that its start does not."""
import machine
from machine import NETPERF_PORT, WIRE, call_in
from wire import NETPERF_DATA_PORT
from .sample import of_transactions


def netperf(test, address, count, ports):
    """So many transactions; each connection of TCP_CRR from another port of (first, last)."""
    machine.run(
        "netperf", "-4", "-H", address, "-p", str(NETPERF_PORT), "-t", test, "-l", f"-{count}",
        "--", "-r", "1,1", "-P", f",{NETPERF_DATA_PORT}", "-p", "{},{}".format(*ports),
    )  # fmt: skip


class Netperf:
    unit = "per s"
    COUNTS = {"TCP_RR": 3000, "TCP_CRR": 350, "UDP_RR": 3000}
    # Of the shorter run; what the other one has more must outweigh what the start varies by.
    FEW = 50
    LEAST = 350
    # netperf's server closes first, so the wire remembers a connection for a minute, and as Linux 7.3
    # offsets time stamps by connection, it refuses every second one that comes from the same port again
    # (RFC 6191). The masqueraded container has 3,232 ports: all connections of both runs find one of
    # their own, as their ports differ by less than that.
    PORTS_FEW = (20000, 20079)
    PORTS_MANY = (20080, 20511)

    def __init__(self, test):
        self.test = test
        self.key = test.lower().replace("_", "-")
        self.title = test

    def count(self, scale):
        return max(int(self.COUNTS[self.test] * scale), self.LEAST)

    def run(self, variant, clock, scale):
        count = self.count(scale)
        times = call_in(variant.namespace, lambda: self.take_times(WIRE, clock, count))
        return of_transactions(count, *times)

    def take_times(self, address, clock, count):
        """Of so many transactions, in the namespace this process is in: (ns of work, ns elapsed)."""
        start = clock.now()
        netperf(self.test, address, self.FEW, self.PORTS_FEW)
        start_up, _ = clock.since(start)
        start = clock.now()
        netperf(self.test, address, self.FEW + count, self.PORTS_MANY)
        busy, elapsed = clock.since(start)
        return busy - start_up, elapsed - start_up
