"""A server in the container, which the wire reaches by an address of the host: each variant has the
port there. The host's own server stands for no container."""
import machine
from setups.netavark import NETWORK, Netavark
from .host import Host
from .oci_netkit import Masqueraded
from .veth_routed import packets_of

SERVER_PORT = 5300
HOST_PORT = 5400


class PublishedHost(Host):
    port = SERVER_PORT

    def up(self):
        self.server = machine.Server(None)

    def down(self):
        self.server.stop()


class PublishedOciNetkit(Masqueraded):
    name = "oci-netkit, publish"
    port = HOST_PORT
    annotations = {
        "publish": f"{HOST_PORT}:{SERVER_PORT}",
        "ingress": f"tcp:any:{SERVER_PORT}",
    }

    def up(self):
        super().up()
        self.server = machine.Server(self.namespace)

    def down(self):
        self.server.stop()
        super().down()


class PublishedNetavark:
    """podman run -p with its default network, through the real netavark and its nftables rules."""

    name = "netavark, publish"
    port = HOST_PORT
    namespace = None

    def __init__(self):
        self.netavark = Netavark([{
            "container_port": SERVER_PORT,
            "host_port": HOST_PORT,
            "host_ip": "",
            "protocol": "tcp",
            "range": 1,
        }])

    def up(self):
        self.namespace = machine.Namespace("bench-netavark")
        self.netavark.add(self.namespace, 1)
        self.server = machine.Server(self.namespace)

    def down(self):
        self.server.stop()
        self.netavark.delete(self.namespace, 1)
        self.namespace.remove()
        self.namespace = None
        machine.set_forwarding("0")

    def packets(self):
        return packets_of(NETWORK["network_interface"])

    def device(self):
        return machine.device("eth0", self.namespace)
