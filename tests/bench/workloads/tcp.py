"""One TCP stream of so many bytes out of or into the container, the connection opened by it."""
from machine import call_in
from wire import order
from .sample import Sample

MIB = 1 << 20


class TcpStream:
    unit = "Mbit/s"
    BYTES = 40 * MIB
    # This part of it comes before, until the congestion window has grown.
    WARM_UP = 1 / 5

    def __init__(self, direction):
        self.direction = direction
        self.key = f"tcp-{direction}"
        self.title = f"TCP {direction}"

    def run(self, variant, clock, scale):
        size = whole_mib(self.BYTES * scale)
        warm_up = whole_mib(size * self.WARM_UP)
        move = send if self.direction == "out" else receive
        busy, elapsed = call_in(variant.namespace, lambda: move(clock, warm_up, size))
        return stream_sample(size, busy, elapsed)


def stream_sample(size, busy, elapsed):
    """Of so many bytes; times in ns."""
    return Sample(
        rate=size * 8 / busy * 1e3,
        ns_per_unit=busy / (size / MIB),
        lost=0.0,
        waited=1 - busy / elapsed,
        units=size // MIB,
    )


def whole_mib(size):
    return max(int(size) // MIB, 1) * MIB


def send(clock, warm_up, size):
    chunk = bytes(128 << 10)
    with order(f"take {warm_up + size}") as sock:
        for _ in range(warm_up // len(chunk)):
            sock.sendall(chunk)
        start = clock.now()
        for _ in range(size // len(chunk)):
            sock.sendall(chunk)
        if sock.recv(16) != b"done\n":
            raise RuntimeError("the receiver did not get it all")
        return clock.since(start)


def receive(clock, warm_up, size):
    buffer = memoryview(bytearray(256 << 10))
    with order(f"give {warm_up + size}") as sock:
        read(sock, buffer, warm_up)
        start = clock.now()
        read(sock, buffer, size)
        return clock.since(start)


def read(sock, buffer, left):
    while left:
        got = sock.recv_into(buffer[: min(left, len(buffer))])
        if not got:
            raise RuntimeError("the sender ended early")
        left -= got
