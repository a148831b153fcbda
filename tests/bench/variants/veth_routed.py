"""A veth pair and routes, no bridge, no NAT: as CNI ptp does it."""
import machine
from .containers import Containers


class VethRouted(Containers):
    name = "veth routed"
    first_address = "198.51.100.60"

    def outer(self, n):
        return f"bench-routed{n}"

    def begin(self):
        machine.set_forwarding("1")

    def connect(self, n):
        gateway, outer, inside = machine.ROUTED_GATEWAY, self.outer(n), self.namespaces[n]
        machine.ip(
            f"""link add {outer} type veth peer name eth0 netns {inside.name}
            addr add {gateway}/32 dev {outer}
            link set {outer} up
            route add {self.address(n)}/32 dev {outer}"""
        )
        inside.ip(
            f"""addr add {self.address(n)}/32 dev eth0
            link set eth0 up
            route add {gateway}/32 dev eth0
            route add default via {gateway}"""
        )

    def disconnect(self, n):
        machine.ip(f"link del {self.outer(n)}")

    def end(self):
        machine.set_forwarding("0")

    def packets(self):
        return packets_of(self.outer(0))


def packets_of(outer):
    """What came out of the container through this end of a pair."""
    with open(f"/sys/class/net/{outer}/statistics/rx_packets") as file:
        return int(file.read())
