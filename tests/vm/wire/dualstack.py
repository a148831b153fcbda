# Sockets that serve every address of the wire machine in both families, and
# answer from the very address they were asked at. Used by dns, echo, agent.
import socket


def tcp_listener(port):
    return socket.create_server(
        ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
    )


def serve_udp(port, answer):
    """Sends answer(request bytes) back for each datagram, unless it is None."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # Without this a reply would leave from tap0's address, not from the one
    # on lo that the client used. Linux takes it for mapped IPv4 as well.
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.bind(("", port))
    while True:
        data, control, _, client = sock.recvmsg(65535, 256)
        reply = answer(data)
        if reply is None:
            continue
        # The address stays, the interface index that follows it must not.
        control = [(lvl, kind, value[:16] + bytes(4)) for lvl, kind, value in control]
        try:
            sock.sendmsg([reply], control, 0, client)
        except OSError as error:
            print(f"udp port {port}: {client[0]}: {error}", flush=True)
