"""macvlan and ipvlan: the container has a device of its own on the host's uplink. No rules, no NAT; the
host itself cannot reach the container."""
import machine


class SharedUplink:
    namespace = None

    def up(self):
        self.namespace = machine.Namespace("bench-shared")
        machine.ip(f"link add link eth0 name eth0 netns {self.namespace.name} type {self.kind}")
        self.namespace.ip(
            f"""addr add {self.source}/{self.prefix_len} dev eth0
            link set eth0 up
            route add default {self.next_hop} dev eth0"""
        )

    def down(self):
        self.namespace.ip("link del eth0")
        self.namespace.remove()
        self.namespace = None

    def packets(self):
        return machine.sent(self.namespace)

    def device(self):
        return machine.device("eth0", self.namespace)


class Macvlan(SharedUplink):
    """An address and a MAC address of the uplink's network."""

    name = "macvlan"
    kind = "macvlan mode bridge"
    source, prefix_len = "192.0.2.70", 24
    next_hop = f"via {machine.WIRE}"


class Ipvlan(SharedUplink):
    """Its own address, routed to the host, which routes what the container sends (mode l3)."""

    name = "ipvlan l3"
    kind = "ipvlan mode l3 bridge"
    source, prefix_len = "198.51.100.71", 32
    next_hop = ""
