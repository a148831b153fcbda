"""What the wire asks of a server in the container, by a published port: a stream into or out of it, or
many short connections, each a handshake, a request, an answer and the end."""
import machine
from wire import order
from .sample import MIB, of_bytes, of_transactions
from .tcp import whole_mib


def ask(variant, word, count):
    """Has the wire do it, and waits for it."""
    with order(f"{word} {machine.HOST} {variant.port} {count}") as sock:
        if sock.recv(16) != b"done\n":
            raise RuntimeError(f"{variant.name}: the wire could not {word}")


class PublishedStream:
    unit = "Mbit/s"
    BYTES = 30 * MIB

    def __init__(self, direction):
        self.word = {"in": "push", "out": "pull"}[direction]
        self.key = f"published-{direction}"
        self.title = f"TCP {direction}, by port"

    def run(self, variant, clock, scale):
        size = whole_mib(self.BYTES * scale)
        ask(variant, self.word, MIB)
        start = clock.now()
        ask(variant, self.word, size)
        return of_bytes(size, *clock.since(start))


class PublishedConnections:
    unit = "per s"
    key = "published-connections"
    title = "connections"
    COUNT = 600

    def run(self, variant, clock, scale):
        count = max(int(self.COUNT * scale), 10)
        ask(variant, "connect", 10)
        start = clock.now()
        ask(variant, "connect", count)
        return of_transactions(count, *clock.since(start))
