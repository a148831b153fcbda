"""podman's default network through the real netavark and its nftables rules: veth, bridge, masquerade."""
import machine
from setups.netavark import NETWORK, Netavark
from .veth_routed import packets_of


class NetavarkDefault:
    name = "netavark"
    # Masqueraded.
    source = machine.HOST
    namespace = None
    ports = ()

    def __init__(self):
        self.netavark = Netavark(self.ports)

    def up(self):
        self.namespace = machine.Namespace("bench-netavark")
        self.netavark.add(self.namespace, 1)

    def down(self):
        self.netavark.delete(self.namespace, 1)
        # The last one leaves its empty chains in the way of the others.
        machine.run("nft", "destroy", "table", "inet", "netavark")
        self.namespace.remove()
        self.namespace = None
        machine.set_forwarding("0")

    def packets(self):
        return packets_of(NETWORK["network_interface"])

    def device(self):
        return machine.device("eth0", self.namespace)
