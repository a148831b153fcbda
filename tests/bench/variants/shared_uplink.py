"""macvlan and ipvlan: the container has a device of its own on the host's uplink. No rules, no NAT; the
host itself cannot reach the container."""
import machine
from .containers import Containers


class SharedUplink(Containers):
    def connect(self, n):
        inside = self.namespaces[n]
        # On Linux 6.12 its first name must be free outside too.
        machine.ip(f"link add link eth0 name bench-{n} netns {inside.name} type {self.kind}")
        inside.ip(
            f"""link set bench-{n} name eth0
            addr add {self.address(n)}/{self.prefix_len} dev eth0
            link set eth0 up
            route add default {self.next_hop} dev eth0"""
        )

    def disconnect(self, n):
        self.namespaces[n].ip("link del eth0")


class Macvlan(SharedUplink):
    """An address and a MAC address of the uplink's network."""

    name = "macvlan"
    kind = "macvlan mode bridge"
    first_address, prefix_len = "192.0.2.70", 24
    next_hop = f"via {machine.WIRE}"


class Ipvlan(SharedUplink):
    """Its own address, routed to the host, which routes what the container sends (mode l3)."""

    name = "ipvlan l3"
    kind = "ipvlan mode l3 bridge"
    first_address, prefix_len = "198.51.100.70", 32
    next_hop = ""
