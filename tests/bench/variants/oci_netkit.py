"""What we ship: the real hook and programs, 1,000 rules, counters on; an address of a routed pool, or
a private one that is masqueraded."""
import json

from machine import HOST, WIRE
from setups.oci_netkit import Hook
from wire import TCP_PORTS, UDP_PORTS
from .containers import Containers
from .host import Host


def services(where):
    """Rules for all that is spoken to."""
    named = [f"tcp:{where}:{port}" for port in TCP_PORTS]
    return named + [f"udp:{where}:{port}" for port in UDP_PORTS]


def unused(count):
    """Rules for nothing that is spoken to."""
    return [f"tcp:10.{n // 250}.{n % 250}.0/24:{1000 + n}" for n in range(count)]


class OciNetkit(Containers):
    name = "oci-netkit"
    first_address = "198.51.100.50"
    annotations = {}
    RULES = 1000
    # The first one loads the programs, which a busy emulator may not do in the time the hook has.
    ATTEMPTS = 12

    def __init__(self, binary, count=1):
        super().__init__(count)
        self.hook = Hook(binary)

    def rules(self):
        needed = services(WIRE)
        if self.count > 1:
            needed += services("containers")
        return needed + unused(self.RULES - len(needed))

    def connect(self, n):
        annotations = dict(self.annotations)
        if self.count > 1:
            annotations["ingress"] = " ".join(services("containers"))
        start = [f"bench{n}", self.namespaces[n].pid, self.address(n), self.rules()]
        for left in reversed(range(self.ATTEMPTS)):
            try:
                return self.hook.create(*start, **annotations)
            except RuntimeError as error:
                if not left or "out of time" not in str(error):
                    raise

    def disconnect(self, n):
        self.namespaces[n].end_process()
        self.hook.poststop(f"bench{n}")

    def packets(self):
        """Out of the container, as the programs in the kernel count them."""
        return self.hook.show("bench0")["traffic"]["egress"]["packets"]


class Masqueraded(OciNetkit):
    name = "oci-netkit, masq."
    source = HOST
    first_address = "10.99.0.50"


class ManyRules(OciNetkit):
    """So many rules, one of which lets pass; in a profile of the config, since they are more than an
    annotation may have."""

    first_address = "198.51.100.90"
    annotations = {"profile": "many"}

    def __init__(self, binary, count):
        super().__init__(binary)
        self.rule_count = count
        self.name = "1 rule" if count == 1 else f"{count:,} rules"

    def rules(self):
        """None of its own."""

    def begin(self):
        others = range(self.rule_count - 1)
        rules = [f"any:{WIRE}"] + [f"tcp:10.{n >> 16}.{n >> 8 & 255}.{n & 255}:443" for n in others]
        self.config = self.hook.config.read_text()
        self.hook.config.write_text(f"{self.config}[profile.many]\negress = {json.dumps(rules)}\n")

    def end(self):
        self.hook.config.write_text(self.config)


class HostBesideContainer(Host):
    """The host's own sockets, while a container is there, and so our program at the uplink."""

    name = "host, with a container"

    def __init__(self, binary):
        self.container = OciNetkit(binary)

    def up(self):
        self.container.up()

    def down(self):
        self.container.down()
