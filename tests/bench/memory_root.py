"""A root directory in memory with the programs whose run is timed.

The guest's own root is shared from the host: each open there waits for a process outside of the
guest, for which the guest's clock has no measure. This has all a tool opens, and nothing else.
"""
import os
import shutil
import subprocess
from pathlib import Path

from machine import WORK, run

ROOT = WORK / "root"
# Of setup_times.py itself; a tool names its own.
PROGRAMS = [f"/usr/bin/{name}" for name in ("ip", "nsenter", "setpriv", "sleep", "true")]
# Plugins that iptables opens by name.
TREES = ["/usr/lib/x86_64-linux-gnu/xtables", "/etc"]
LIVE = ["dev", "proc", "run", "sys"]


def enter(tools):
    """Makes it, with these tools' programs and files, and goes there with this process alone."""
    os.unshare(os.CLONE_NEWNS)
    run("mount", "--make-rprivate", "/")
    ROOT.mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        inside(f"/usr/{name}").mkdir(parents=True)
        inside(name).symlink_to(f"usr/{name}")
    for tree in TREES:
        shutil.copytree(tree, inside(tree), symlinks=True)
    for program in [*PROGRAMS, *(path for tool in tools for path in tool.programs)]:
        for path in [program, *libraries(program)]:
            copy(path)
    for path, text in [file for tool in tools for file in tool.files.items()]:
        inside(path).parent.mkdir(parents=True, exist_ok=True)
        inside(path).write_text(text)
    (ROOT / "tmp").mkdir()
    # Who remembers addresses does so there.
    (ROOT / "var/lib").mkdir(parents=True)
    for name in LIVE:
        (ROOT / name).mkdir(exist_ok=True)
        run("mount", "--rbind", f"/{name}", str(ROOT / name))
    os.chroot(ROOT)
    os.chdir("/")
    os.environ["PATH"] = "/usr/sbin:/usr/bin"


def inside(path):
    return ROOT / path.lstrip("/")


def copy(path):
    target = inside(path)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def libraries(program):
    """Full paths, of a static program none."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return [word for word in told.split() if word.startswith("/")]
