"""Attaches the programs of minimal.bpf.c to a pair and the uplink, before whatever is there.

They are loaded by bpftool; links are made here, as it makes none to netkit. They end with detach(), or
with this process.
"""
import ctypes
import os
import socket
import struct

from machine import WIRE, link, neighbour, run

PINS = "/sys/fs/bpf/bench-minimal"
# libbpf's name for the variable, pinned.
MAP = "minimal_bss"
BPF_OBJ_GET, BPF_LINK_CREATE = 7, 28
BPF_F_BEFORE = 1 << 3
# Where what the container sends passes, by the kind of its pair's device on the host.
TCX_INGRESS, NETKIT_PEER = 46, 55
OUTWARD = {"veth": TCX_INGRESS, "netkit": NETKIT_PEER}
SYS_BPF = 321

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, *parts):
    attributes = b"".join(parts).ljust(64, b"\0")
    buffer = ctypes.create_string_buffer(attributes, 64)
    fd = libc.syscall(SYS_BPF, command, buffer, 64)
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf({command}): {os.strerror(error)}")
    return fd


def attach_first(pin, ifindex, where):
    """A link that lives as long as its descriptor, which this returns."""
    path = ctypes.create_string_buffer(pin.encode())
    fd = bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(path), 0, 0))
    try:
        return bpf(BPF_LINK_CREATE, struct.pack("=IIII", fd, ifindex, where, BPF_F_BEFORE))
    finally:
        os.close(fd)


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


class Minimal:
    """One container's; those of several may be there at a time."""

    def __init__(self, object, n=0):
        self.object = object
        self.pins = f"{PINS}{n}"
        self.links = []

    def attach(self, pair_ifindex, kind, address):
        """`address` is behind the pair whose end on the host is a netkit or veth of this number."""
        uplink = link("eth0")
        way = struct.pack(
            "=6s6sII4s",
            mac(neighbour(WIRE)),
            mac(uplink["address"]),
            uplink["ifindex"],
            pair_ifindex,
            socket.inet_aton(address),
        )
        self.load()
        value = [f"{byte:02x}" for byte in way]
        key = ["key", "hex", "00", "00", "00", "00"]
        run("bpftool", "map", "update", "pinned", f"{self.pins}/{MAP}", *key, "value", "hex", *value)
        self.links = [
            attach_first(f"{self.pins}/from_container", pair_ifindex, OUTWARD[kind]),
            attach_first(f"{self.pins}/from_wire", uplink["ifindex"], TCX_INGRESS),
        ]

    def load(self):
        run("bpftool", "prog", "loadall", str(self.object), self.pins, "pinmaps", self.pins)

    def attach_nothing(self):
        """The program that does nothing, to the uplink alone."""
        self.load()
        self.links = [attach_first(f"{self.pins}/nothing", link("eth0")["ifindex"], TCX_INGRESS)]

    def detach(self):
        for fd in self.links:
            os.close(fd)
        self.links = []
        run("rm", "-r", self.pins)
