"""No container: the host's own sockets. What the others are measured against."""
import machine


class Host:
    name = "host"
    source = machine.HOST
    namespace = None
    # Both ends between containers: over the loopback device.
    namespaces = [None, None]

    def address(self, n):
        return machine.HOST

    def up(self):
        pass

    def down(self):
        pass

    def packets(self):
        return None

    def device(self):
        return machine.device("eth0")
