"""Datagrams out of the container, as many as the CPU can send; what reached the wire counts."""
import fcntl
import socket
import struct
import subprocess
import termios
import time

from machine import WIRE, call_in
from wire import UDP_PORT, Counter
from .sample import Sample


class Sender:
    """../flood.rs on a socket of ours, in the namespace this process is in."""

    def __init__(self, flood, size):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((WIRE, UDP_PORT))
        self.process = subprocess.Popen(
            [flood, str(size)],
            stdin=subprocess.PIPE,
            stdout=self.sock,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send(self, packets):
        """Returns when the device has them all."""
        self.process.stdin.write(f"{packets}\n")
        self.process.stdin.flush()
        answer = self.process.stderr.readline()
        if answer != "sent\n":
            raise RuntimeError(f"flood: {answer}{self.process.stderr.read()}")
        while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.0005)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stderr.close()
        self.sock.close()


class UdpOut:
    unit = "kpps"
    # Opens the flow, asks for the neighbour's address, fills the caches.
    WARM_UP = 256

    def __init__(self, size, flood):
        self.size = size
        self.flood = flood
        self.key = f"udp{size}-out"
        self.title = f"UDP {size} B out"
        self.packets = 20_000 if size < 500 else 15_000

    def run(self, variant, clock, scale):
        packets = int(self.packets * scale)
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
        return Sample(
            rate=arrived / busy * 1e6,
            ns_per_unit=busy / arrived,
            lost=1 - arrived / packets,
            waited=1 - busy / elapsed,
            units=arrived,
        )

    def _send(self, counter, clock, packets):
        sender = Sender(self.flood, self.size)
        sender.send(self.WARM_UP)
        early = counter.wait_for(self.WARM_UP)
        start = clock.now()
        sender.send(packets)
        busy, elapsed = clock.since(start)
        sender.close()
        return early, busy, elapsed
