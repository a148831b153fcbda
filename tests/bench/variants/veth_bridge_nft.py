"""A veth pair, a bridge and nftables masquerade: podman's default network, rules as netavark's."""
import machine
from .containers import Containers
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


class VethBridgeNft(Containers):
    name = "veth + bridge + nft"
    # Masqueraded.
    source = machine.HOST
    first_address = "10.90.0.2"

    def outer(self, n):
        return f"bench-port{n}"

    def begin(self):
        machine.ip(
            """link add bench-bridge type bridge
            addr add 10.90.0.1/16 dev bench-bridge
            link set bench-bridge up"""
        )
        machine.run("nft", "-f", "-", stdin=RULES)
        machine.set_forwarding("1")

    def connect(self, n):
        outer, inside = self.outer(n), self.namespaces[n]
        machine.ip(
            f"""link add {outer} type veth peer name eth0 netns {inside.name}
            link set {outer} master bench-bridge
            link set {outer} up"""
        )
        inside.ip(
            f"""addr add {self.address(n)}/16 dev eth0
            link set eth0 up
            route add default via 10.90.0.1"""
        )

    def disconnect(self, n):
        machine.ip(f"link del {self.outer(n)}")

    def end(self):
        machine.set_forwarding("0")
        machine.run("nft", "delete", "table", "inet", "bench_podman")
        machine.ip("link del bench-bridge")

    def packets(self):
        return packets_of(self.outer(0))
