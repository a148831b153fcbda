"""The programs of ../minimal.bpf.c, which only write MAC addresses and redirect, both ways, on either
kind of pair. On netkit they are the floor: nothing that redirects costs less. On veth the same programs
show what is due to the pair alone."""
import machine
from minimal import Minimal
from .oci_netkit import OciNetkit
from .veth_routed import VethRouted


class NetkitRedirect(OciNetkit):
    """The very pair the hook makes, with our programs behind these, and without a rule: whatever came
    to them would be dropped."""

    name = "netkit + redirect"
    source = address = "198.51.100.51"

    def __init__(self, binary, programs):
        super().__init__(binary)
        self.minimal = Minimal(programs)

    def rules(self):
        return []

    def up(self):
        super().up()
        pair = machine.link("eth0", self.namespace)["link_index"]
        self.minimal.attach(pair, "netkit", self.address)

    def down(self):
        self.minimal.detach()
        super().down()

    def packets(self):
        return machine.sent(self.namespace)


class VethRedirect(VethRouted):
    """The pair of "veth routed"; the host does not forward, so nothing can go past the programs."""

    name = "veth + redirect"
    source = "198.51.100.61"

    def __init__(self, programs):
        self.minimal = Minimal(programs)

    def up(self):
        super().up()
        machine.set_forwarding("0")
        self.minimal.attach(machine.link(self.OUTER)["ifindex"], "veth", self.source)

    def down(self):
        self.minimal.detach()
        super().down()
