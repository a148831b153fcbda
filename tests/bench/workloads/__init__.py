"""What is measured. A workload has a key, a unit, and run(variant, clock, scale) -> Sample.

It runs its sockets where the variant's container is (machine.call_in), reads the clock around the
part that counts, and tells what arrived at the receiver. To add one: a file here, a line below.
"""
from .published import PublishedConnections, PublishedStream
from .tcp import TcpStream
from .udp import UdpOut


def outward(flood):
    """What a container does. `flood`: the program of ../flood.rs."""
    return [UdpOut(64, flood), UdpOut(1400, flood), TcpStream("out"), TcpStream("in")]


def inward():
    """What is done to a server in it."""
    return [PublishedStream("in"), PublishedStream("out"), PublishedConnections()]
