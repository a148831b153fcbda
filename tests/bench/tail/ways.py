"""Ways from the wire to N servers, one per container. The wire connects to a container's own address
where it has one that is routed or on the wire's network, else to a port of the host.

A way has a name, up(copies) -> places, passed(), which counts the packets the containers sent by it
and what it dropped itself (empty: it has no container), device() and down(). Only one is up at a time.
To add one: a class here, and its place in WAYS.
"""
from dataclasses import dataclass
from pathlib import Path

import counters
import machine
from minimal import Minimal
from setups.netavark import NETWORK, Netavark
from setups.oci_netkit import Hook
from variants import OciNetkit

SERVER_PORT = 5300
HOST_PORT = 5400


@dataclass
class Place:
    """Where a server runs, and where the client finds it."""

    namespace: machine.Namespace | None
    address: str
    port: int = SERVER_PORT
    listens: int = SERVER_PORT


class Way:
    """A namespace per copy; connect(n, namespace) -> Place does the rest."""

    routes = False

    def __init__(self, programs):
        self.places = []

    def up(self, copies):
        if self.routes:
            machine.set_forwarding("1")
        for n in range(copies):
            self.places.append(self.connect(n, machine.Namespace(f"bench-tail{n}")))
        return self.places

    def down(self):
        for n, place in enumerate(self.places):
            place.namespace.end_process()
            self.disconnect(n, place)
            place.namespace.remove()
        self.places = []
        machine.set_forwarding("0")

    def disconnect(self, n, place):
        """The namespace takes its device with it."""

    def passed(self):
        nets = (Path(f"/proc/{place.namespace.pid}/net") for place in self.places)
        return {"packets": sum(counters.devices(net)["eth0"][1][1] for net in nets), "drops": 0}

    def device(self):
        return machine.device("eth0", self.places[0].namespace)


class Host(Way):
    """No container: servers beside each other, as processes of the host."""

    name = "host"

    def up(self, copies):
        ports = range(HOST_PORT, HOST_PORT + copies)
        self.places = [Place(None, machine.HOST, port, port) for port in ports]
        return self.places

    def down(self):
        self.places = []

    def passed(self):
        return {}

    def device(self):
        return machine.device("eth0")


class Routed(Way):
    """What we ship, 1,000 rules, counters on."""

    name = "oci-netkit"
    ADDRESSES = "198.51.100"
    # The first one loads the programs, which a busy emulator may not do in the time the hook has.
    ATTEMPTS = 4

    def __init__(self, programs):
        super().__init__(programs)
        self.hook = Hook(programs.binary)
        self.rules = OciNetkit(programs.binary).rules()

    def connect(self, n, namespace):
        return Place(namespace, self.create(n, namespace))

    def create(self, n, namespace, **annotations):
        address = f"{self.ADDRESSES}.{50 + n}"
        annotations["ingress"] = f"tcp:any:{SERVER_PORT}"
        for left in reversed(range(self.ATTEMPTS)):
            try:
                self.hook.create(f"bench{n}", namespace.pid, address, self.rules, **annotations)
                return address
            except RuntimeError as error:
                if not left or "out of time" not in str(error):
                    raise

    def disconnect(self, n, place):
        self.hook.poststop(f"bench{n}")

    def passed(self):
        """As the programs in the kernel count: a redirected packet passes no device's counter."""
        shown = [self.hook.show(f"bench{n}") for n in range(len(self.places))]
        drops = [of_reason for s in shown for way in s["drops"].values() for of_reason in way.values()]
        packets = sum(s["traffic"]["egress"]["packets"] for s in shown)
        return {"packets": packets, "drops": sum(drops)}


class Published(Routed):
    """The same with a private address, masqueraded, and a published port."""

    name = "oci-netkit, publish"
    ADDRESSES = "10.99.0"

    def connect(self, n, namespace):
        port = HOST_PORT + n
        self.create(n, namespace, publish=f"{port}:{SERVER_PORT}")
        return Place(namespace, machine.HOST, port)


class VethRouted(Way):
    """A veth pair and routes, no bridge, no NAT: as CNI ptp does it."""

    name = "veth routed"
    routes = True

    def connect(self, n, namespace):
        address, gateway = f"198.51.100.{60 + n}", machine.ROUTED_GATEWAY
        machine.ip(
            f"""link add bench-veth{n} type veth peer name eth0 netns {namespace.name}
            addr add {gateway}/32 dev bench-veth{n}
            link set bench-veth{n} up
            route add {address}/32 dev bench-veth{n}"""
        )
        namespace.ip(
            f"""addr add {address}/32 dev eth0
            link set eth0 up
            route add {gateway}/32 dev eth0
            route add default via {gateway}"""
        )
        return Place(namespace, address)

    def disconnect(self, n, place):
        machine.ip(f"link del bench-veth{n}")


class VethRedirect(VethRouted):
    """The same pair, and programs that only write MAC addresses and redirect (minimal.bpf.c). The host
    does not forward, so nothing can go past them."""

    name = "veth + redirect"
    routes = False

    def __init__(self, programs):
        super().__init__(programs)
        self.object = programs.minimal
        self.minimal = []

    def connect(self, n, namespace):
        place = super().connect(n, namespace)
        self.minimal.append(Minimal(self.object, n))
        self.minimal[n].attach(machine.link(f"bench-veth{n}")["ifindex"], "veth", place.address)
        return place

    def disconnect(self, n, place):
        self.minimal[n].detach()
        super().disconnect(n, place)

    def down(self):
        super().down()
        self.minimal = []


class Bridge(Way):
    """podman run -p with its default network: veth, a bridge and nftables rules, by the real netavark."""

    name = "netavark"

    def __init__(self, programs):
        super().__init__(programs)
        self.tools = {}

    def connect(self, n, namespace):
        port = {
            "container_port": SERVER_PORT,
            "host_port": HOST_PORT + n,
            "host_ip": "",
            "protocol": "tcp",
            "range": 1,
        }
        self.tools[n] = Netavark([port])
        self.tools[n].add(namespace, n + 1)
        return Place(namespace, machine.HOST, HOST_PORT + n)

    def disconnect(self, n, place):
        self.tools[n].delete(place.namespace, n + 1)

    def down(self):
        super().down()
        # Its table would stay, and with it the hooks of netfilter, in everyone's way.
        machine.run("nft", "flush", "ruleset")

    def device(self):
        return {**super().device(), "bridge": NETWORK["network_interface"]}


class Macvlan(Way):
    """A device on the host's uplink, with an address and a MAC address of its network."""

    name = "macvlan"

    def connect(self, n, namespace):
        address = f"192.0.2.{70 + n}"
        # The same each time, as the wire's machine remembers it from the round before.
        mac = f"address 02:00:00:00:01:{n:02x}"
        next_hop = f"via {machine.WIRE}"
        uplink_device(namespace, "macvlan mode bridge", f"{address}/24", next_hop, mac)
        return Place(namespace, address)


class Ipvlan(Way):
    """The same with the host's MAC address, mode l3."""

    name = "ipvlan l3"

    def connect(self, n, namespace):
        address = f"198.51.100.{80 + n}"
        uplink_device(namespace, "ipvlan mode l3 bridge", f"{address}/32", "")
        return Place(namespace, address)


def uplink_device(namespace, kind, address, next_hop, mac=""):
    machine.ip(f"link add link eth0 name eth0 {mac} netns {namespace.name} type {kind}")
    namespace.ip(
        f"""addr add {address} dev eth0
        link set eth0 up
        route add default {next_hop} dev eth0"""
    )


WAYS = [Host, Routed, Published, VethRedirect, VethRouted, Bridge, Macvlan, Ipvlan]
# What ratios refer to, and what saturates first.
OURS, SLOWEST = Routed, Bridge
# What is also measured in overload.
IN_QUESTION = (Host, Routed, Bridge)
