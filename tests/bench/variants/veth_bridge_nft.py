"""A veth pair, a bridge and nftables masquerade: podman's default network, rules as netavark's."""
import machine
from .veth_routed import packets_of

RULES = """
table inet bench_podman {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state invalid drop
		ip daddr 10.90.0.0/16 ct state established,related accept
		ip saddr 10.90.0.0/16 accept
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.90.0.0/16 jump subnet
	}
	chain subnet {
		ip daddr 10.90.0.0/16 accept
		ip daddr != 224.0.0.0/4 masquerade
	}
}
"""


class VethBridgeNft:
    name = "veth + bridge + nft"
    # Masqueraded.
    source = machine.HOST
    namespace = None
    OUTER = "bench-port"

    def up(self):
        self.namespace = machine.Namespace("bench-bridge")
        machine.ip(
            f"""link add bench-bridge type bridge
            addr add 10.90.0.1/16 dev bench-bridge
            link set bench-bridge up
            link add {self.OUTER} type veth peer name eth0 netns {self.namespace.name}
            link set {self.OUTER} master bench-bridge
            link set {self.OUTER} up"""
        )
        self.namespace.ip(
            """addr add 10.90.0.2/16 dev eth0
            link set eth0 up
            route add default via 10.90.0.1"""
        )
        machine.run("nft", "-f", "-", stdin=RULES)
        machine.set_forwarding("1")

    def down(self):
        machine.set_forwarding("0")
        machine.run("nft", "delete", "table", "inet", "bench_podman")
        machine.ip(
            f"""link del {self.OUTER}
            link del bench-bridge"""
        )
        self.namespace.remove()
        self.namespace = None

    def packets(self):
        return packets_of(self.OUTER)

    def device(self):
        return machine.device("eth0", self.namespace)
