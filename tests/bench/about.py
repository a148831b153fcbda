"""What the benchmark's programs in the guest have in common: their arguments, what they measure with, and
what a reader must know of a run."""
import argparse
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import machine
from variants import OciNetkit


@dataclass
class Programs:
    binary: Path  # oci-netkit
    flood: Path  # flood.rs
    minimal: Path  # minimal.bpf.c


def parser(description):
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--binary", default="/usr/libexec/oci/hooks.d/oci-netkit")
    made.add_argument(
        "--programs", type=Path, required=True, help="where flood and minimal.bpf.o are"
    )
    made.add_argument("--rounds", type=int, default=3, help="of the traffic (default 3)")
    made.add_argument("--scale", type=float, default=1, help="amount of traffic, times the usual")
    made.add_argument("--json", type=Path, help="file for the numbers")
    return made


def programs(args):
    """In memory, where there is no other machine to wait for."""
    machine.WORK.mkdir(exist_ok=True)
    flood, minimal = (
        shutil.copy(args.programs / name, machine.WORK) for name in ("flood", "minimal.bpf.o")
    )
    return Programs(args.binary, flood, minimal)


def guest(binary):
    return {
        "kernel": platform.release(),
        # The guest's root is the tree that QEMU runs in.
        "qemu": machine.run("dpkg-query", "-W", "-f", "${Version}", "qemu-system-x86"),
        "icount": os.environ.get("OCI_NETKIT_ICOUNT"),
        "cpus": os.cpu_count(),
        "oci_netkit": machine.run(binary, "--version").strip(),
    }


def facts(args):
    return {
        **guest(args.binary),
        "rules": OciNetkit.RULES,
        "rounds": args.rounds,
        "scale": args.scale,
        "iproute2": machine.run("ip", "-V").strip(),
    }
