"""CNI's reference plugins, called as a runtime calls them: environment, config on standard input.

ptp without NAT is the least CNI can do; bridge with ipMasq is what podman's CNI networks were.
"""
import json
import os
import subprocess

from machine import run

PLUGINS = "/usr/lib/cni"
IPTABLES = ["/usr/sbin/iptables", "/usr/sbin/ip6tables"]


class Cni:
    files = {}

    def _call(self, command, namespace, n):
        env = dict(
            os.environ,
            CNI_COMMAND=command,
            CNI_CONTAINERID=f"bench-{self.kind}-{n}",
            CNI_NETNS=namespace.path,
            CNI_IFNAME="eth0",
            CNI_PATH=PLUGINS,
        )
        done = subprocess.run(
            [f"{PLUGINS}/{self.kind}"],
            input=json.dumps(self.config),
            env=env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"CNI {self.kind} {command}: {done.stdout}{done.stderr}")

    def add(self, namespace, n):
        self._call("ADD", namespace, n)

    def delete(self, namespace, n):
        self._call("DEL", namespace, n)


def config(kind, subnet, **more):
    ipam = {"type": "host-local", "subnet": subnet, "dataDir": "/run/oci-netkit-bench/cni"}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]
    return {"cniVersion": "1.0.0", "name": f"bench-{kind}", "type": kind, "ipam": ipam, **more}


class CniPtp(Cni):
    name = "CNI ptp"
    kind = "ptp"
    programs = [f"{PLUGINS}/ptp", f"{PLUGINS}/host-local"]
    config = config("ptp", "10.91.0.0/16")

    def reset(self):
        pass


class CniBridge(Cni):
    name = "CNI bridge"
    kind = "bridge"
    programs = [f"{PLUGINS}/bridge", f"{PLUGINS}/host-local", *IPTABLES]
    DEVICE = "bench-cni"
    config = config("bridge", "10.92.0.0/16", bridge=DEVICE, isGateway=True, ipMasq=True)

    def reset(self):
        run("ip", "link", "del", self.DEVICE)
