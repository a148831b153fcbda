"""The guest's side of the client on the wire machine (client.rs)."""
import json
import socket
import time

import machine

PORT = 5310
CTL = "/src/tests/vm/wire/ctl"
# The wire machine sees the guest's files here.
GUEST = "/run/guest"


class Client:
    """Started with a real-time priority, as others cannot make it late then; niceness counts only
    within a session, where the kernel groups by these."""

    def __init__(self, program):
        command = f"chrt --rr 10 {GUEST}{program} client {PORT} </dev/null >/dev/null 2>&1 &"
        machine.run(CTL, "exec", "--", "sh", "-c", command)
        for _ in range(100):
            try:
                self.sock = socket.create_connection((machine.WIRE, PORT), 10)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            raise RuntimeError("the client does not start")
        self.lines = self.sock.makefile()

    def order(self, **order):
        """Returns when the run is over."""
        self.sock.settimeout(order["warm_up"] + order["seconds"] + order["grace"] + 60)
        self.sock.sendall(f"{json.dumps(order)}\n".encode())
        answer = json.loads(self.lines.readline())
        if "error" in answer:
            raise RuntimeError(f"client: {answer['error']}")
        return answer
