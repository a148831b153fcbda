"""What is stacked: a copy is a server and two busy loops in a cgroup of their own, all of one weight."""
import signal
import subprocess
import time
from pathlib import Path

import machine

HOGS = 2
CGROUPS = Path("/sys/fs/cgroup")


class Copy:
    """The server listens when this returns; nothing is busy yet."""

    def __init__(self, program, n, place):
        self.program = program
        self.cgroup = CGROUPS / f"bench-tail{n}"
        self.cgroup.mkdir()
        enter = ["nsenter", f"--net={place.namespace.path}"] if place.namespace else []
        self.server = self._start(
            [*enter, program, "serve", str(place.listens)], stdout=subprocess.PIPE
        )
        if self.server.stdout.readline() != b"ready\n":
            raise RuntimeError("a server does not start")
        self.hogs = []

    def _start(self, argv, **options):
        process = subprocess.Popen([*machine.DIES_WITH_US, *argv], **options)
        (self.cgroup / "cgroup.procs").write_text(str(process.pid))
        return process

    def be_busy(self):
        if not self.hogs:
            self.hogs = [self._start([self.program, "hog"]) for _ in range(HOGS)]
        for hog in self.hogs:
            hog.send_signal(signal.SIGCONT)

    def rest(self):
        for hog in self.hogs:
            hog.send_signal(signal.SIGSTOP)

    def end(self):
        for process in [*self.hogs, self.server]:
            process.kill()
            process.wait()
        self.server.stdout.close()
        while "populated 1" in (self.cgroup / "cgroup.events").read_text():
            time.sleep(0.01)
        self.cgroup.rmdir()
