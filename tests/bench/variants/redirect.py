"""The programs of ../minimal.bpf.c, which only write MAC addresses and redirect, both ways, on either
kind of pair. On netkit they are the floor: nothing that redirects costs less. On veth the same programs
show what is due to the pair alone. Not between containers."""
import machine
from minimal import Minimal
from .host import Host
from .oci_netkit import OciNetkit
from .veth_routed import VethRouted


class NetkitRedirect(OciNetkit):
    """The very pair the hook makes, with our programs behind these, and without a rule: whatever came
    to them would be dropped."""

    name = "netkit + redirect"
    first_address = "198.51.100.40"

    def __init__(self, binary, programs, count=1):
        super().__init__(binary, count)
        self.minimal = [Minimal(programs, n) for n in range(count)]

    def rules(self):
        return []

    def connect(self, n):
        super().connect(n)
        pair = machine.link("eth0", self.namespaces[n])["link_index"]
        self.minimal[n].attach(pair, "netkit", self.address(n))

    def disconnect(self, n):
        self.minimal[n].detach()
        super().disconnect(n)

    def packets(self):
        return machine.sent(self.namespace)


class HostBesideNothing(Host):
    """A program that does nothing at the uplink: the floor for what ours costs the host itself."""

    name = "host, an empty program"

    def __init__(self, programs):
        self.minimal = Minimal(programs)

    def up(self):
        self.minimal.attach_nothing()

    def down(self):
        self.minimal.detach()


class VethRedirect(VethRouted):
    """The pair of "veth routed"; the host does not forward, so nothing can go past the programs."""

    name = "veth + redirect"
    first_address = "198.51.100.80"

    def __init__(self, programs, count=1):
        super().__init__(count)
        self.minimal = [Minimal(programs, n) for n in range(count)]

    def begin(self):
        """No forwarding."""

    def connect(self, n):
        super().connect(n)
        pair = machine.link(self.outer(n))["ifindex"]
        self.minimal[n].attach(pair, "veth", self.address(n))

    def disconnect(self, n):
        self.minimal[n].detach()
        super().disconnect(n)
