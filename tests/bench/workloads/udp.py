"""Datagrams out of the container, as many as the CPU can send, of which those count that reached the
wire; and into it, of which those count that its socket got."""
import struct

from machine import WIRE, call_in
from wire import FLOOD_PORT, UDP_PORT, WINDOW, Counter
from .datagrams import Sender, Taker
from .sample import of_packets

# Opens the flow, asks for the neighbour's address, fills the caches.
WARM_UP = 256


def packets_of(size):
    return 20_000 if size < 500 else 15_000


class UdpOut:
    unit = "kpps"

    def __init__(self, size, flood):
        self.size = size
        self.flood = flood
        self.key = f"udp{size}-out"
        self.title = f"UDP {size} B out"

    def run(self, variant, clock, scale):
        packets = int(packets_of(self.size) * scale)
        counter = Counter(variant.source)
        try:
            early, busy, elapsed = call_in(
                variant.namespace, lambda: self._send(counter, clock, packets)
            )
            arrived = counter.wait_for(early + packets) - early
        finally:
            counter.close()
        if arrived <= 0:
            raise RuntimeError(f"{variant.name}: nothing from {variant.source} reached the wire")
        return of_packets(packets, arrived, busy, elapsed)

    def _send(self, counter, clock, packets):
        sender = Sender(self.flood, self.size, WIRE, UDP_PORT)
        sender.send(WARM_UP)
        early = counter.wait_for(WARM_UP)
        start = clock.now()
        sender.send(packets)
        busy, elapsed = clock.since(start)
        sender.close()
        return early, busy, elapsed


class UdpIn:
    """The wire is faster than the guest, so it sends windows of datagrams, some ahead: the guest has
    always something to do, and nothing in between runs over."""

    unit = "kpps"

    def __init__(self, size, flood):
        self.size = size
        self.flood = flood
        self.key = f"udp{size}-in"
        self.title = f"UDP {size} B in"

    def run(self, variant, clock, scale):
        packets = int(packets_of(self.size) * scale)
        arrived, busy, elapsed = call_in(variant.namespace, lambda: self._take(clock, packets))
        if not arrived:
            raise RuntimeError(f"{variant.name}: nothing from the wire arrived")
        return of_packets(packets, arrived, busy, elapsed)

    def _take(self, clock, packets):
        taker = Taker(self.flood, WINDOW, connected=(WIRE, FLOOD_PORT))
        self._ask(taker, WARM_UP)
        start = clock.now()
        arrived = self._ask(taker, packets)
        busy, elapsed = clock.since(start)
        taker.close()
        return arrived, busy, elapsed

    def _ask(self, taker, packets):
        taker.order(packets)
        taker.sock.send(struct.pack("!II", packets, self.size))
        return taker.taken()
