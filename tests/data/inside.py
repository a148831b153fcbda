"""Runs as a container's only process and does there what a test asks for.

One JSON object per line on standard input, one answer per line on standard
output; ends with its input. One process for a whole test, since a program
started in an emulated guest costs more than everything it then does. Owns no
expectation: whether an answer is right is for the test to say.
"""
import errno
import json
import os
import socket
import struct
import sys
import threading
import time

SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_QDISC_BYPASS = 20
ETH_P_ALL = 3

heard = []  # what arrived at our listeners and sniffer
kept = {}  # sockets that outlive their request


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def failure(error):
    if isinstance(error, TimeoutError):
        return {"ok": False, "error": "timeout"}
    number = getattr(error, "errno", None)
    return {"ok": False, "error": errno.errorcode.get(number, str(error))}


def read_all(sock, most=1 << 16):
    parts, size = [], 0
    while size < most and (part := sock.recv(65536)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def tcp(to, port, send=None, until_end=False, timeout=5, source=""):
    """Connects; with `send` also waits for an answer, with `until_end` for all of it."""
    with socket.socket(family(to), socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        sock.connect((to, port))
        if send is None:
            return {"ok": True}
        sock.sendall(send.encode())
        data = read_all(sock) if until_end else sock.recv(65536)
        return {"ok": True, "reply": data.decode(errors="replace")}


def open_tcp(name, to, port, timeout=5):
    sock = kept[name] = socket.socket(family(to), socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect((to, port))
    return {"ok": True, "port": sock.getsockname()[1]}


def say(name, send, timeout=5):
    """One exchange over a connection that open_tcp made."""
    kept[name].settimeout(timeout)
    kept[name].sendall(send.encode())
    return {"ok": True, "reply": kept[name].recv(65536).decode(errors="replace")}


def udp(to, port, send="ping", timeout=5, source="", source_port=0):
    with socket.socket(family(to), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        if source or source_port:
            sock.bind((source, source_port))
        sock.connect((to, port))
        sock.send(send.encode())
        return {"ok": True, "reply": sock.recv(65536).decode(errors="replace")}


def send_sizes(to, port, sizes, timeout=2):
    """Datagrams of these sizes that nobody may fragment, each with its echo: how each of them fared."""
    fared = []
    six = family(to) == socket.AF_INET6
    with socket.socket(family(to), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        # IP_MTU_DISCOVER or IPV6_MTU_DISCOVER, IP_PMTUDISC_DO: the same number in both.
        sock.setsockopt(socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, 23 if six else 10, 2)
        sock.connect((to, port))
        for size in sizes:
            try:
                sock.send(b"s" * size)
                fared.append("echo" if len(sock.recv(65536)) == size else "another")
            except OSError as error:
                fared.append(failure(error)["error"])
    return {"ok": True, "reply": " ".join(fared)}


def ping(to, timeout=5, size=16):
    """One ICMP echo through an unprivileged socket."""
    six = family(to) == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with socket.socket(family(to), socket.SOCK_DGRAM, protocol) as sock:
        sock.settimeout(timeout)
        sock.connect((to, 0))
        sock.send(struct.pack("!BBHHH", 128 if six else 8, 0, 0, 0, 1) + b"p" * size)
        return {"ok": True, "reply": str(sock.recv(65536)[0])}


def probes(questions, tries=2, timeout=1.5):
    """All of them at once, each with some patience: which got an answer."""
    reached = [False] * len(questions)

    def one(n, protocol, to, port):
        for _ in range(tries):
            try:
                if protocol == "icmp":
                    ping(to, timeout)
                else:
                    ask = tcp if protocol == "tcp" else udp
                    ask(to, port, send=f"probe {n}", timeout=timeout)
                reached[n] = True
                return
            except OSError:
                pass

    threads = [threading.Thread(target=one, args=(n, *probe)) for n, probe in enumerate(questions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"ok": True, "reached": reached}


def flows(remotes, count, timeout=10):
    """So many UDP sockets at a time, each with another word for one of the echo servers and each its
    answer awaited only once all have asked."""
    import resource
    import select

    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    words, answered, wrong = {}, 0, 0
    poll = select.epoll()
    for i in range(count):
        to, port = remotes[i % len(remotes)]
        sock = socket.socket(family(to), socket.SOCK_DGRAM)
        sock.connect((to, port))
        words[sock.fileno()] = (sock, f"flow {i} of {os.getpid()}".encode())
        poll.register(sock, select.EPOLLIN)
    # A server with a small buffer loses what comes at once; the flows stay open all the same.
    waiting, asked, end = dict(words), [], time.monotonic() + timeout
    while waiting and time.monotonic() < end:
        for fd in asked or list(waiting)[:64]:
            try:
                waiting[fd][0].send(waiting[fd][1])
            except OSError:
                pass
        until = time.monotonic() + 0.2
        asked = list(waiting)[:64]
        while asked and time.monotonic() < until:
            for fd, _ in poll.poll(0.05):
                sock, word = words[fd]
                data = sock.recv(4096)
                wrong += data != word
                if fd in waiting:
                    answered += data == word
                    del waiting[fd]
            asked = [fd for fd in asked if fd in waiting]
    for sock, _ in words.values():
        sock.close()
    return {"ok": True, "answered": answered, "wrong": wrong}


def listen(protocol, port):
    """Echoes on both families; `heard` says who came."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    if protocol == "tcp":
        sock.listen(64)
    serve = serve_tcp if protocol == "tcp" else serve_udp
    threading.Thread(target=serve, args=(sock, port), daemon=True).start()
    return {"ok": True}


def note(protocol, port, peer, data):
    heard.append(
        {
            "protocol": protocol,
            "port": port,
            "from": peer[0].removeprefix("::ffff:"),
            "from_port": peer[1],
            "data": data.decode(errors="replace"),
        }
    )


def serve_tcp(sock, port):
    def one(conn, peer):
        with conn:
            note("tcp", port, peer, b"")
            try:
                while data := conn.recv(65536):
                    conn.sendall(data)
            except OSError:
                pass

    while True:
        conn, peer = sock.accept()
        threading.Thread(target=one, args=(conn, peer), daemon=True).start()


def serve_udp(sock, port):
    while True:
        data, peer = sock.recvfrom(65536)
        note("udp", port, peer, data)
        try:
            sock.sendto(data, peer)
        except OSError:
            pass


def take_heard(wait=0):
    """What was heard since the last time; waits up to `wait` seconds for something."""
    end = time.monotonic() + wait
    while not heard and time.monotonic() < end:
        time.sleep(0.01)
    taken, heard[:] = list(heard), []
    return {"ok": True, "heard": taken}


def sniff(device):
    """From now on every frame that arrives at the device is heard too."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((device, ETH_P_ALL))

    def run():
        while True:
            data, address = sock.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING:
                heard.append({"protocol": "frame", "hex": data.hex()})

    threading.Thread(target=run, daemon=True).start()
    return {"ok": True}


def raw(device, hex, protocol, vnet="", bypass=False, mark=0):
    """One frame through AF_PACKET. `protocol` is what the kernel is told it
    is, `vnet` a struct virtio_net_hdr in front of it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        if vnet:
            sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        if bypass:
            sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        if mark:
            # As bytes: Python takes no int above 2**31.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        sock.sendto(bytes.fromhex(vnet + hex), (device, protocol))
    return {"ok": True}


def upload(to, port, size, timeout=60):
    """Sends `size` bytes as the body of an HTTP request; the server says how many came."""
    with socket.socket(family(to), socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect((to, port))
        head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode())
        block = b"u" * (1 << 18)
        while size:
            size -= sock.send(block[: min(size, len(block))])
        return {"ok": True, "reply": read_all(sock).decode(errors="replace")}


def download(to, port, size, timeout=60):
    """Fetches `size` bytes over HTTP; the answer is how many came."""
    with socket.socket(family(to), socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect((to, port))
        sock.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got, head = 0, b""
        while part := sock.recv(1 << 18):
            if b"\r\n\r\n" not in head:
                head += part
                part = head.partition(b"\r\n\r\n")[2]
            got += len(part)
        return {"ok": True, "reply": str(got)}


def run(argv, timeout=30):
    import subprocess

    begun = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    return {"ok": done.returncode == 0, "rc": done.returncode, "out": done.stdout, "err": done.stderr, "seconds": seconds}


def read(path):
    with open(path) as file:
        return {"ok": True, "reply": file.read()}


def devices():
    return {"ok": True, "reply": " ".join(sorted(name for _, name in socket.if_nameindex()))}


OPERATIONS = {
    f.__name__: f
    for f in (tcp, open_tcp, say, udp, send_sizes, ping, probes, listen, flows, take_heard, sniff, raw, upload, download, run, read, devices)
}


def answer(line):
    request = json.loads(line)
    try:
        return OPERATIONS[request.pop("op")](**request)
    except OSError as error:
        return failure(error)


def main():
    # Whatever a child prints must not look like an answer.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ok": True, "ready": True}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line)), file=out, flush=True)


main()
