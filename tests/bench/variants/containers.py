"""What the variants have in common: one container or several, each a namespace with the device eth0.

A variant says how it connects the n-th, from 0, and disconnects it, and what its address is.
"""
import ipaddress

import machine


class Containers:
    # Of the first; the next has the next.
    first_address = None

    def __init__(self, count=1):
        self.count = count
        self.namespaces = []

    @property
    def namespace(self):
        """Of the first."""
        return self.namespaces[0]

    def address(self, n):
        return str(ipaddress.ip_address(self.first_address) + n)

    @property
    def source(self):
        """What the wire sees of the first."""
        return self.address(0)

    def up(self):
        self.begin()
        for n in range(self.count):
            self.namespaces.append(machine.Namespace(f"bench-{n}"))
            self.connect(n)

    def down(self):
        for n in reversed(range(self.count)):
            self.disconnect(n)
            self.namespaces.pop().remove()
        self.end()

    def begin(self):
        """What is there once for all of them."""

    def end(self):
        pass

    def packets(self):
        """Out of the first."""
        return machine.sent(self.namespace)

    def device(self):
        return machine.device("eth0", self.namespace)
