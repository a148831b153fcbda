"""The guest's side of wire_server: starts it, asks it for counts, opens streams to it."""
import socket
import time

from machine import NETPERF_PORT, WIRE, run

# Of wire_server: orders, datagrams that are thrown away, windows of datagrams that are wanted.
PORT, UDP_PORT, FLOOD_PORT = 5300, 5301, 5302
WINDOW = 64
# netperf's, for data.
NETPERF_DATA_PORT = 5305
# All a container speaks to.
TCP_PORTS = (PORT, NETPERF_PORT, NETPERF_DATA_PORT)
UDP_PORTS = (UDP_PORT, FLOOD_PORT, NETPERF_DATA_PORT)
CTL = "/src/tests/vm/wire/ctl"


def start():
    """Starts the servers on the wire machine, unless they are there. They listen when this returns."""
    try:
        socket.create_connection((WIRE, PORT), 60).close()
    except ConnectionRefusedError:
        run(CTL, "exec", "--", "/src/tests/bench/wire_server")
        run(CTL, "exec", "--", "netserver", "-4", "-p", str(NETPERF_PORT))


def order(text, address=WIRE):
    """A connection to a server that has got this order."""
    sock = socket.create_connection((address, PORT), 60)
    sock.sendall(f"{text}\n".encode())
    return sock


class Counter:
    """Frames on the wire from one source to the UDP port, from now on."""

    def __init__(self, source):
        self.sock = order(f"count {UDP_PORT} {source}")
        self.lines = self.sock.makefile()
        if self.lines.readline() != "ready\n":
            raise RuntimeError("wire_server does not count")

    def read(self):
        self.sock.sendall(b"\n")
        return int(self.lines.readline())

    def wait_for(self, expected):
        """The count once it is as expected, or no longer grows."""
        last, still = -1, 0
        while last < expected and still < 5:
            time.sleep(0.02)
            now = self.read()
            last, still = now, still + 1 if now == last else 0
        return last

    def close(self):
        self.lines.close()
        self.sock.close()
