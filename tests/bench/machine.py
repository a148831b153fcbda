"""The guest as the host under test: commands, network namespaces, code that runs in one.

Knows no variant, workload or tool. Namespaces are `ip netns` ones with a process in them, since the
hook is given a pid and the others a path: so each tool works on the same kind.
"""
import json
import os
import subprocess
import time
import traceback
from pathlib import Path

# As in tests/vm/README.md: the guest, the wire machine, and the prefix it routes to the guest.
HOST = "192.0.2.2"
WIRE = "192.0.2.1"
ROUTED_GATEWAY = "198.51.100.1"
NETPERF_PORT = 5304
# Everything below is on a tmpfs, so that no file is read from outside of the guest while it counts.
WORK = Path("/run/oci-netkit-bench")

# Before a command: else, after a failure, who started us would wait for the ends of our pipes.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def run(*argv, stdin=""):
    """Output of a command that must succeed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def ip(lines):
    """Runs lines as `ip` commands, in order."""
    run("ip", "-batch", "-", stdin=lines)


# mm/damon/stat.c, since Linux 6.17.
DAMON_STAT = Path("/sys/module/damon_stat/parameters/enabled")


def stop_watching_memory():
    """DAMON_STAT, where the kernel starts it by itself, looks at pages every few milliseconds, at more of
    them the longer the guest is up. Whoever waits for the wire would pay for that, and most who comes last."""
    if DAMON_STAT.exists():
        DAMON_STAT.write_text("N")


def set_forwarding(value):
    Path("/proc/sys/net/ipv4/ip_forward").write_text(value)


class Namespace:
    """A network namespace with a name and one process in it."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        run("ip", "netns", "add", name)
        self.process = subprocess.Popen(
            [*DIES_WITH_US, "nsenter", f"--net={self.path}", "sleep", "infinity"]
        )
        self.pid = self.process.pid
        while not self._is_entered():
            time.sleep(0.001)

    def _is_entered(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"no process stays in {self.path}")
        return os.stat(f"/proc/{self.pid}/ns/net").st_ino == os.stat(self.path).st_ino

    def ip(self, lines):
        run("ip", "-netns", self.name, "-batch", "-", stdin=lines)

    def end_process(self):
        """As at the end of a container: its namespace is still there for who takes it down."""
        self.process.kill()
        self.process.wait()

    def remove(self):
        self.end_process()
        run("ip", "netns", "del", self.name)


class Server:
    """wire_server in a namespace (None: this one), listening when this returns."""

    def __init__(self, namespace):
        enter = ["nsenter", f"--net={namespace.path}"] if namespace else []
        self.process = subprocess.Popen(
            [*enter, Path(__file__).with_name("wire_server"), "--stay"], stdout=subprocess.PIPE
        )
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("the server does not start")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class NetperfServer:
    """netperf's in a namespace (None: this one), listening when this returns."""

    def __init__(self, namespace):
        enter = ["nsenter", f"--net={namespace.path}"] if namespace else []
        command = ["netserver", "-D", "-4", "-p", str(NETPERF_PORT)]
        self.process = subprocess.Popen([*enter, *command], stdout=subprocess.DEVNULL)
        sockets = Path(f"/proc/{self.process.pid}/net/tcp")
        while f":{NETPERF_PORT:04X} 00000000:0000 0A" not in sockets.read_text():
            time.sleep(0.001)

    def stop(self):
        self.process.kill()
        self.process.wait()


def entered(namespace, function):
    """What function() returns, from this process, that is in the namespace (None: this one) meanwhile."""
    with open("/proc/self/ns/net") as home:
        if namespace:
            with open(namespace.path) as file:
                os.setns(file.fileno(), os.CLONE_NEWNET)
        try:
            return function()
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)


def call_in(namespace, function):
    """What function() returns, from a process of its own in the namespace (None: this one)."""

    return in_child(lambda: entered(namespace, function))


def in_child(function):
    """What function() returns, as JSON carries it, from a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = {}
        try:
            answer["value"] = function()
        except BaseException:
            answer["error"] = traceback.format_exc()
        with os.fdopen(writer, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "the process died"}')
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]


def link(name, namespace=None):
    """All that `ip` says of a device; of one of a pair, `link_index` is the other's number."""
    inside = ["-netns", namespace.name] if namespace else []
    return json.loads(run("ip", *inside, "-json", "-details", "-stats", "link", "show", name))[0]


def device(name, namespace=None):
    """What must be equal for a fair comparison: MTU, queue discipline, offload sizes."""
    keys = ("mtu", "qdisc", "gso_max_size", "gro_max_size", "num_tx_queues")
    told = link(name, namespace)
    return {key: told[key] for key in keys}


def sent(namespace):
    """Packets the container's device has sent, as the device counts."""
    return link("eth0", namespace)["stats64"]["tx"]["packets"]


def neighbour(address):
    """The MAC address of one whom we have just spoken to."""
    return json.loads(run("ip", "-json", "neigh", "show", address))[0]["lladdr"]


def netfilter():
    """Which parts of it are in the kernel, and the rules there are."""
    modules = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    parts = [m for m in modules if m.startswith(("nf_", "nft_", "ip_tables", "xt_", "br_netfilter"))]
    # Asking nft would load its module.
    return {"modules": sorted(parts), "conntrack": "nf_conntrack" in parts}
