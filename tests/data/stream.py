"""A numbered stream and its echo: stream.py udp|tcp|deny ADDRESS PORT RATE

Sends RATE numbered messages a second until its standard input ends, then says
as JSON what came back. `udp`: which numbers never did. `tcp`: whether the
stream came back whole and in order. `deny`: sends datagrams and expects none.
"""
import json
import socket
import sys
import threading
import time

kind, address, port, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()


def paced():
    number, next_at = 0, time.monotonic()
    while not stop.is_set():
        yield number
        number += 1
        next_at += 1 / rate
        time.sleep(max(0, next_at - time.monotonic()))


def udp():
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.connect((address, port))
    sock.settimeout(2)
    back, sent = set(), 0

    def hear():
        try:
            while True:
                back.add(int(sock.recv(2048).split()[1]))
        except (TimeoutError, OSError):
            # Nothing for two seconds: the end, if the sender has ended as well.
            if not stop.is_set():
                hear()

    listener = threading.Thread(target=hear)
    listener.start()
    for number in paced():
        sock.send(b"number %d " % number)
        sent = number + 1
    listener.join()
    return {"sent": sent, "missing": sorted(set(range(sent)) - back)}


def tcp():
    sock = socket.create_connection((address, port), timeout=10)
    sent, back, whole = bytearray(), bytearray(), threading.Event()

    def hear():
        while not back.endswith(b"\nend\n") and (part := sock.recv(65536)):
            back.extend(part)
        whole.set()

    for number in paced():
        line = b"line %d " % number + b"x" * 1000 + b"\n"
        sent.extend(line)
        sock.sendall(line)
        if number == 0:
            threading.Thread(target=hear, daemon=True).start()
    sock.sendall(b"end\n")
    sent.extend(b"end\n")
    whole.wait(20)
    return {"sent": len(sent), "same": bytes(back) == bytes(sent)}


def deny():
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sent = refused = 0
    for number in paced():
        try:
            sock.sendto(b"forbidden %d" % number, (address, port))
            sent += 1
        except OSError:
            refused += 1
    return {"sent": sent, "refused": refused}


print(json.dumps({"udp": udp, "tcp": tcp, "deny": deny}[kind]()), flush=True)
