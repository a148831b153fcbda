"""A veth pair and routes, no bridge, no NAT: as CNI ptp does it."""
import machine


class VethRouted:
    name = "veth routed"
    source = "198.51.100.60"
    namespace = None
    OUTER = "bench-routed"

    def up(self):
        self.namespace = machine.Namespace("bench-routed")
        gateway = machine.ROUTED_GATEWAY
        machine.ip(
            f"""link add {self.OUTER} type veth peer name eth0 netns {self.namespace.name}
            addr add {gateway}/32 dev {self.OUTER}
            link set {self.OUTER} up
            route add {self.source}/32 dev {self.OUTER}"""
        )
        self.namespace.ip(
            f"""addr add {self.source}/32 dev eth0
            link set eth0 up
            route add {gateway}/32 dev eth0
            route add default via {gateway}"""
        )
        machine.set_forwarding("1")

    def down(self):
        machine.set_forwarding("0")
        machine.ip(f"link del {self.OUTER}")
        self.namespace.remove()
        self.namespace = None

    def packets(self):
        return packets_of(self.OUTER)

    def device(self):
        return machine.device("eth0", self.namespace)


def packets_of(outer):
    """What came out of the container through this end of a pair."""
    with open(f"/sys/class/net/{outer}/statistics/rx_packets") as file:
        return int(file.read())
