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


PHASES = [BareHost, HostWithConntrack, PublishedPorts]
# Not of traffic, and the last: setup_times.py.
SET_UP = "set-up"


def chosen(programs, names, variant_names, workload_keys):
    """Those named (nothing: all), each with what is named of it, and with its host row."""
    wanted = []
    for phase in (kind(programs) for kind in PHASES if not names or kind.name in names):
        phase.variants = [
            v for v in phase.variants if not variant_names or v.name in {"host", *variant_names}
        ]
        phase.workloads = [
            w for w in phase.workloads if not workload_keys or w.key in workload_keys
        ]
        if phase.workloads and (len(phase.variants) > 1 or not variant_names):
            wanted.append(phase)
    return wanted
