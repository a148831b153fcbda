"""podman's default network through the real netavark and its nftables rules: veth, bridge, masquerade."""
import machine
from setups.netavark import Netavark
from .containers import Containers


class NetavarkDefault(Containers):
    name = "netavark"
    # Masqueraded.
    source = machine.HOST
    ports = ()

    def __init__(self, count=1):
        super().__init__(count)
        self.netavark = Netavark(self.ports)

    def address(self, n):
        return self.netavark.address(n)

    def connect(self, n):
        self.netavark.add(self.namespaces[n], n)

    def disconnect(self, n):
        self.netavark.delete(self.namespaces[n], n)

    def end(self):
        # The last one leaves its empty chains in the way of the others, and the host forwards.
        machine.run("nft", "destroy", "table", "inet", "netavark")
        machine.set_forwarding("0")
