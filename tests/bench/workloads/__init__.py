"""What is measured. A workload has a key, a unit, and run(variant, clock, scale) -> Sample.

It runs its sockets where the variant's container is (machine.call_in), reads the clock around the
part that counts, and tells what arrived at the receiver. To add one: a file here, a line below.
"""
from .between import NetperfBetween, TcpBetween, UdpBetween
from .netperf import Netperf
from .published import PublishedConnections, PublishedStream
from .tcp import TcpStream
from .udp import UdpIn, UdpOut

SIZES = (64, 512, 1400)


def outward(flood):
    """What a container does. `flood`: the program of ../flood.rs."""
    return [
        *(UdpOut(size, flood) for size in SIZES),
        *(UdpIn(size, flood) for size in SIZES),
        *(TcpStream(direction, streams) for streams in (1, 8) for direction in ("out", "in")),
        *(Netperf(test) for test in ("TCP_RR", "TCP_CRR", "UDP_RR")),
    ]


def between(flood):
    """What two containers do with each other."""
    return [UdpBetween(64, flood), TcpBetween(), NetperfBetween("TCP_RR")]


def inward():
    """What is done to a server in it."""
    return [PublishedStream("in"), PublishedStream("out"), PublishedConnections()]
