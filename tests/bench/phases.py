"""The phases of the benchmark, in the order in which one boot must have them: netfilter, once loaded,
stays. Each has a host row of its own, which its ratios refer to."""
import machine
import variants
import workloads

CONNTRACK = """
table inet bench_host {
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
	}
	chain output {
		type filter hook output priority filter; policy accept;
		ct state established,related accept
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
	}
}
"""


class Phase:
    # Names of variants and keys of workloads in `make bench` (None: all).
    quick = (None, None)

    def __init__(self, programs):
        self.variants = self.all_variants(programs)
        self.workloads = self.all_workloads(programs)

    def prepare(self):
        pass

    def finish(self):
        pass


class BareHost(Phase):
    """Nothing of netfilter in the kernel."""

    name = "bare host"
    quick = (
        {"netkit + redirect", "oci-netkit", "oci-netkit, masq.", "veth routed"},
        {"udp64-out", "udp1400-out", "udp64-in", "tcp-out", "tcp-in", "tcp-rr", "tcp-crr"},
    )

    def all_variants(self, programs):
        return [
            variants.Host(),
            variants.NetkitRedirect(programs.binary, programs.minimal),
            variants.OciNetkit(programs.binary),
            variants.Masqueraded(programs.binary),
            variants.VethRedirect(programs.minimal),
            variants.VethRouted(),
            variants.Macvlan(),
            variants.Ipvlan(),
        ]

    def all_workloads(self, programs):
        return workloads.outward(programs.flood)


class HostWithConntrack(Phase):
    """A table that tracks connections, as most hosts have."""

    name = "host with conntrack"
    quick = (
        {"oci-netkit", "oci-netkit, masq.", "netavark"},
        {"udp64-out", "udp1400-out", "tcp-out", "tcp-in"},
    )

    def all_variants(self, programs):
        return [
            variants.Host(),
            variants.OciNetkit(programs.binary),
            variants.Masqueraded(programs.binary),
            variants.VethBridgeNft(),
            variants.NetavarkDefault(),
        ]

    def all_workloads(self, programs):
        return workloads.outward(programs.flood)

    def prepare(self):
        machine.run("nft", "-f", "-", stdin=CONNTRACK)

    def finish(self):
        machine.run("nft", "delete", "table", "inet", "bench_host")


class PublishedPorts(Phase):
    """The wire reaches servers by ports of the host."""

    name = "published ports"

    def all_variants(self, programs):
        return [
            variants.PublishedHost(),
            variants.PublishedOciNetkit(programs.binary),
            variants.PublishedNetavark(),
        ]

    def all_workloads(self, programs):
        return workloads.inward()


class BetweenContainers(Phase):
    """From one container to another one of the same kind; the host's own sockets use its loopback."""

    name = "between containers"
    quick = (set(), set())

    def all_variants(self, programs):
        return [
            variants.Host(),
            variants.OciNetkit(programs.binary, count=2),
            variants.VethRouted(count=2),
            variants.Macvlan(count=2),
            variants.Ipvlan(count=2),
            variants.VethBridgeNft(count=2),
            variants.NetavarkDefault(count=2),
        ]

    def all_workloads(self, programs):
        return workloads.between(programs.flood)


class BesideContainers(Phase):
    """The host's own traffic, with and without our program at its uplink."""

    name = "beside containers"
    quick = (None, {"udp64-out", "udp64-in", "tcp-in"})

    def all_variants(self, programs):
        return [
            variants.Host(),
            variants.HostBesideNothing(programs.minimal),
            variants.HostBesideContainer(programs.binary),
        ]

    def all_workloads(self, programs):
        return workloads.outward(programs.flood)


class LongLists(Phase):
    """A container with one rule, and others with more."""

    name = "long lists"
    quick = ({"100,000 rules"}, {"udp64-out"})

    def all_variants(self, programs):
        return [variants.ManyRules(programs.binary, count) for count in (1, 1_000, 100_000)]

    def all_workloads(self, programs):
        kept = {"udp64-out", "tcp-crr"}
        return [w for w in workloads.outward(programs.flood) if w.key in kept]


# Those without netfilter first.
PHASES = [
    BareHost,
    BesideContainers,
    LongLists,
    HostWithConntrack,
    BetweenContainers,
    PublishedPorts,
]


class PassesAlone(Phase):
    """Counts of softirqs: what else is in the kernel has no say in them."""

    name = "softirqs"

    def all_variants(self, programs):
        podman = [variants.VethBridgeNft(), variants.NetavarkDefault()]
        return BareHost(programs).variants + podman

    def all_workloads(self, programs):
        return [workloads.UdpOut(64, programs.flood), workloads.UdpIn(64, programs.flood)]


class PassesBetween(BetweenContainers):
    name = "softirqs between containers"

    def all_workloads(self, programs):
        return [workloads.UdpBetween(64, programs.flood)]


PASSES = [PassesAlone, PassesBetween]
# Not of traffic, and the last: setup_times.py.
SET_UP = "set-up"


def chosen(programs, args):
    """The phases and what is named of each by the guest's arguments; without any, or --full, what `make
    bench` has of them. The first variant stays, as ratios refer to it."""
    some = is_part(args)
    wanted = []
    for kind in PHASES:
        phase = kind(programs)
        names, keys = (None, None) if args.full or some else phase.quick
        phase.variants = phase.variants[:1] + [
            v
            for v in phase.variants[1:]
            if (names is None or v.name in names) and (not args.variant or v.name in args.variant)
        ]
        phase.workloads = [
            w
            for w in phase.workloads
            if (keys is None or w.key in keys) and (not args.workload or w.key in args.workload)
        ]
        if args.phase and phase.name not in args.phase:
            continue
        if phase.workloads and len(phase.variants) > 1:
            wanted.append(phase)
    return wanted


def is_part(args):
    return args.phase or args.variant or args.workload


def has_set_up(args):
    return SET_UP in args.phase or not is_part(args)
