"""TCP streams of so many bytes out of or into the container, the connections opened by it."""
import threading

from machine import WIRE, call_in
from wire import order
from .sample import MIB, of_bytes


class TcpStream:
    unit = "Mbit/s"
    # Of all streams together.
    BYTES = 40 * MIB
    # This part of it comes before, until the congestion window has grown.
    WARM_UP = 1 / 5

    def __init__(self, direction, streams=1):
        self.direction = direction
        self.streams = streams
        self.key = f"tcp{streams if streams > 1 else ''}-{direction}"
        self.title = f"{streams} x TCP {direction}" if streams > 1 else f"TCP {direction}"

    def run(self, variant, clock, scale):
        return call_in_sample(variant.namespace, self, WIRE, clock, scale)

    def times(self, address, clock, scale):
        """(bytes, ns of work, ns elapsed), in the namespace this process is in."""
        size = whole_mib(self.BYTES / self.streams * scale)
        warm_up = whole_mib(size * self.WARM_UP)
        stream = Out if self.direction == "out" else In
        streams = [stream(address, warm_up, size) for _ in range(self.streams)]
        for s in streams:
            s.move(warm_up)
        start = clock.now()
        at_once([lambda s=s: s.finish(size) for s in streams])
        return size * self.streams, *clock.since(start)


def call_in_sample(namespace, stream, address, clock, scale):
    return of_bytes(*call_in(namespace, lambda: stream.times(address, clock, scale)))


def at_once(calls):
    """In a thread each, but for a single one."""
    failed = []

    def run(call):
        try:
            call()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls[1:]]
    for thread in threads:
        thread.start()
    run(calls[0])
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def whole_mib(size):
    return max(int(size) // MIB, 1) * MIB


class Out:
    CHUNK = bytes(128 << 10)

    def __init__(self, address, warm_up, size):
        self.sock = order(f"take {warm_up + size}", address)

    def move(self, size):
        for _ in range(size // len(self.CHUNK)):
            self.sock.sendall(self.CHUNK)

    def finish(self, size):
        self.move(size)
        if self.sock.recv(16) != b"done\n":
            raise RuntimeError("the receiver did not get it all")
        self.sock.close()


class In:
    def __init__(self, address, warm_up, size):
        self.buffer = memoryview(bytearray(256 << 10))
        self.sock = order(f"give {warm_up + size}", address)

    def move(self, size):
        while size:
            got = self.sock.recv_into(self.buffer[: min(size, len(self.buffer))])
            if not got:
                raise RuntimeError("the sender ended early")
            size -= got

    def finish(self, size):
        self.move(size)
        self.sock.close()
