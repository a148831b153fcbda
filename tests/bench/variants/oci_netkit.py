"""What we ship: the real hook and programs, 1,000 rules, counters on; an address of a routed pool, or
a private one that is masqueraded."""
import machine
from machine import WIRE
from setups.oci_netkit import Hook
from wire import PORT, UDP_PORT


class OciNetkit:
    name = "oci-netkit"
    source = address = "198.51.100.50"
    namespace = None
    annotations = {}
    RULES = 1000

    def __init__(self, binary):
        self.hook = Hook(binary)

    def rules(self):
        needed = [f"udp:{WIRE}:{UDP_PORT}", f"tcp:{WIRE}:{PORT}"]
        others = range(self.RULES - len(needed))
        return needed + [f"tcp:10.{n // 250}.{n % 250}.0/24:{1000 + n}" for n in others]

    def up(self):
        self.namespace = machine.Namespace("bench-netkit")
        self.hook.create(
            "bench", self.namespace.pid, self.address, self.rules(), **self.annotations
        )

    def down(self):
        self.namespace.end_process()
        self.hook.poststop("bench")
        self.namespace.remove()
        self.namespace = None

    def packets(self):
        """Out of the container, as the programs in the kernel count them."""
        return self.hook.show("bench")["traffic"]["egress"]["packets"]

    def device(self):
        return machine.device("eth0", self.namespace)


class Masqueraded(OciNetkit):
    name = "oci-netkit, masq."
    source = machine.HOST
    address = "10.99.0.50"
