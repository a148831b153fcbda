"""The hook, called as a runtime calls it: container state on standard input."""
import json
import shutil

from machine import WORK, run

CONFIG = """
[[pool]]
prefix = "{}"
reach = "routed"
"""
BUNDLE = {
    "ociVersion": "1.0.2",
    "process": {
        "cwd": "/",
        "args": ["sleep"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": [], "effective": [], "permitted": []},
    },
    "linux": {"namespaces": [{"type": "network"}]},
}


class Hook:
    """The binary, copied to memory, with a config and a bundle of its own."""

    def __init__(self, binary):
        self.binary = str(shutil.copy(binary, WORK / "oci-netkit"))
        self.config = WORK / "oci-netkit.toml"
        self.config.write_text(CONFIG.format("198.51.100.0/24"))
        self.options = ["--config", str(self.config)]
        self.bundle = WORK / "bundle"
        self.bundle.mkdir(exist_ok=True)
        (self.bundle / "config.json").write_text(json.dumps(BUNDLE))

    def create(self, id, pid, address, egress, **others):
        self.run("hook", "create", stdin=self.created(id, pid, address, egress, **others))

    def poststop(self, id):
        self.run("hook", "poststop", stdin=self.stopped(id))

    def created(self, id, pid, address, egress, **others):
        """What a runtime says of a container. Without `egress` (None), the profile's."""
        keys = {"address": address, **others}
        if egress is not None:
            keys["egress"] = " ".join(egress)
        annotations = {f"io.oci-netkit.{key}": value for key, value in keys.items()}
        return self._state(id=id, status="created", pid=pid, annotations=annotations)

    def stopped(self, id):
        return self._state(id=id, status="stopped")

    def _state(self, **state):
        return json.dumps({"ociVersion": "1.0.2", "bundle": str(self.bundle), **state})

    def command(self, *args):
        return [self.binary, *self.options, *args]

    def run(self, *args, stdin=""):
        return run(*self.command(*args), stdin=stdin)

    def show(self, id):
        return json.loads(self.run("show", id, "--json"))


class OciNetkitSetup:
    """`hook create` and `hook poststop`, address leased, two rules."""

    name = "oci-netkit"
    # Where the hook looks for it, so that the command line is that of hooks.d; room for a thousand, as
    # the others have.
    files = {"/etc/oci-netkit/config.toml": CONFIG.format("10.94.0.0/16")}
    RULES = ["tcp:203.0.113.10:443", "udp:192.0.2.53:53"]

    def __init__(self, binary):
        self.hook = Hook(binary)
        self.hook.options = []
        self.programs = [self.hook.binary]

    def add(self, namespace, n):
        self.hook.run("hook", "create", stdin=self.created(namespace, n))

    def delete(self, namespace, n):
        self.hook.poststop(f"setup{n}")

    def created(self, namespace, n):
        """What a runtime tells the hook of the container of add()."""
        return self.hook.created(f"setup{n}", namespace.pid, "auto4", self.RULES)

    def stopped(self, n):
        return self.hook.stopped(f"setup{n}")

    def memory_bytes(self, n):
        """Of the tables of a container, as the kernel counts."""
        return self.hook.show(f"setup{n}")["memory_bytes"]

    def reset(self):
        self.hook.run("unload")
