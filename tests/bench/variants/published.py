"""A server in the container, which the wire reaches by an address of the host: each variant has the
port there. The host's own server stands for no container."""
import machine
from .host import Host
from .netavark import NetavarkDefault
from .oci_netkit import Masqueraded

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


class PublishedNetavark(NetavarkDefault):
    name = "netavark, publish"
    port = HOST_PORT
    ports = [
        {
            "container_port": SERVER_PORT,
            "host_port": HOST_PORT,
            "host_ip": "",
            "protocol": "tcp",
            "range": 1,
        }
    ]

    def up(self):
        super().up()
        self.server = machine.Server(self.namespace)

    def down(self):
        self.server.stop()
        super().down()
