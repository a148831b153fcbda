"""Times how long each tool takes to connect a namespace and to disconnect it again.

Elapsed time in the guest, from the start of the program to its end: waiting for the kernel is part
of what a user waits for. One other container of the same tool stays meanwhile.
"""
import subprocess
import sys
import time

import machine


def timed(call, *args):
    """Milliseconds."""
    start = time.perf_counter_ns()
    call(*args)
    return (time.perf_counter_ns() - start) / 1e6


class Container:
    def __init__(self, tool, n):
        self.tool, self.n = tool, n
        self.namespace = machine.Namespace(f"setup{n}")

    def add(self):
        return timed(self.tool.add, self.namespace, self.n)

    def delete(self):
        self.namespace.end_process()
        took = timed(self.tool.delete, self.namespace, self.n)
        self.namespace.remove()
        return took


def measure(tools, rounds, firsts):
    """`firsts` times the first container, then `rounds` more, tools interleaved."""
    number = iter(range(1, 1_000_000))
    times = {t.name: {"first_add": [], "add": [], "delete": []} for t in tools}
    keepers = []
    for tool in tools:
        print(f"bench: first {tool.name}", file=sys.stderr)
        # The kernel's modules come into memory.
        warm = Container(tool, next(number))
        warm.add()
        warm.delete()
        for left in reversed(range(firsts)):
            tool.reset()
            container = Container(tool, next(number))
            times[tool.name]["first_add"].append(container.add())
            if left:
                container.delete()
            else:
                keepers.append(container)
    for round in range(rounds):
        print(f"bench: set-up, round {round + 1}", file=sys.stderr)
        for tool in tools if round % 2 == 0 else reversed(tools):
            container = Container(tool, next(number))
            times[tool.name]["add"].append(container.add())
            times[tool.name]["delete"].append(container.delete())
    netfilter = machine.netfilter()
    for container in keepers:
        container.delete()
        container.tool.reset()
    return {
        "order": [t.name for t in tools],
        "netfilter": netfilter,
        "spawn_ms": [timed(subprocess.run, ["/usr/bin/true"]) for _ in range(rounds)],
        "tools": [{"tool": name, **values} for name, values in times.items()],
    }
