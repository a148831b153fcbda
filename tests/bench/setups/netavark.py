"""netavark with its nftables driver, called as podman calls it for its default kind of network."""
import json
import os
import subprocess

PROGRAM = "/usr/lib/podman/netavark"
NETWORK = {
    "name": "bench",
    "id": "bea7" * 16,
    "driver": "bridge",
    "network_interface": "bench-na",
    "subnets": [{"subnet": "10.93.0.0/16", "gateway": "10.93.0.1"}],
    "ipv6_enabled": False,
    "internal": False,
    "dns_enabled": False,
    "ipam_options": {"driver": "host-local"},
}


class Netavark:
    name = "netavark"
    programs = [PROGRAM, "/usr/sbin/nft"]
    files = {}

    def __init__(self, ports=()):
        self.ports = list(ports)

    @staticmethod
    def address(n):
        return f"10.93.{1 + n // 250}.{1 + n % 250}"

    def _call(self, command, namespace, n):
        options = {
            "container_id": f"{n:064x}",
            "container_name": f"bench{n}",
            "networks": {"bench": {"static_ips": [self.address(n)], "interface_name": "eth0"}},
            "network_info": {"bench": NETWORK},
            "port_mappings": self.ports,
        }
        done = subprocess.run(
            [PROGRAM, "--config", "/run/oci-netkit-bench/netavark", command, namespace.path],
            input=json.dumps(options),
            env=dict(os.environ, NETAVARK_FW="nftables"),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"netavark {command}: {done.stdout}{done.stderr}")

    def add(self, namespace, n):
        self._call("setup", namespace, n)

    def delete(self, namespace, n):
        self._call("teardown", namespace, n)

    def reset(self):
        """The last teardown took the bridge away."""
