"""From the variant's first container to its second. What both do counts."""
import machine
from machine import call_in
from wire import UDP_PORT
from .datagrams import Sender, Taker
from .netperf import Netperf
from .sample import of_packets, of_transactions
from .tcp import TcpStream, call_in_sample
from .udp import WARM_UP, packets_of


class UdpBetween:
    unit = "kpps"

    def __init__(self, size, flood):
        self.size = size
        self.flood = flood
        self.key = f"udp{size}-between"
        self.title = f"UDP {size} B between"

    def run(self, variant, clock, scale):
        packets = int(packets_of(self.size) * scale)
        first, second = variant.namespaces
        taker = machine.entered(second, lambda: Taker(self.flood, 0, bound=UDP_PORT))
        address = variant.address(1)
        sender = machine.entered(first, lambda: Sender(self.flood, self.size, address, UDP_PORT))
        self._move(sender, taker, WARM_UP)
        start = clock.now()
        arrived = self._move(sender, taker, packets)
        busy, elapsed = clock.since(start)
        sender.close()
        taker.close()
        if not arrived:
            raise RuntimeError(f"{variant.name}: nothing arrived")
        return of_packets(packets, arrived, busy, elapsed)

    @staticmethod
    def _move(sender, taker, packets):
        sender.send(packets)
        # One more, of a single byte: that was all.
        sender.sock.send(b".")
        taker.order(packets + 1)
        return taker.taken()


class TcpBetween(TcpStream):
    def __init__(self):
        super().__init__("out")
        self.key = "tcp-between"
        self.title = "TCP between"

    def run(self, variant, clock, scale):
        first, second = variant.namespaces
        server = machine.Server(second)
        try:
            return call_in_sample(first, self, variant.address(1), clock, scale)
        finally:
            server.stop()


class NetperfBetween(Netperf):
    def __init__(self, test):
        super().__init__(test)
        self.key += "-between"
        self.title += " between"

    def run(self, variant, clock, scale):
        first, second = variant.namespaces
        address, count = variant.address(1), self.count(scale)
        server = machine.NetperfServer(second)
        try:
            times = call_in(first, lambda: self.take_times(address, clock, count))
        finally:
            server.stop()
        return of_transactions(count, *times)
