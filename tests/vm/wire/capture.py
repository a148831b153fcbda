# Every frame that crosses the tap, kept in memory in the order seen. Owns the
# packet socket and the list; agent hands both out. Frames are as on the tap:
# those of a sender with offloads are large and lack their checksums.
import collections
import socket
import struct
import threading
import time

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
# struct tpacket_auxdata's tp_status bits
CSUM_NOT_READY = 1 << 3
VLAN_VALID = 1 << 4
VLAN_TPID_VALID = 1 << 6

CONTROL_PORT = 9999
# The oldest frames go first; `lost` then says how many.
KEEP_BYTES = 256 << 20

Frame = collections.namedtuple("Frame", "n time direction data checksum")


class Capture:
    def __init__(self, device):
        self.lock = threading.Lock()
        self.frames = collections.deque()
        self.next = 0
        self.held_bytes = 0
        self.dropped = 0
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 128 << 20)
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.bind((device, ETH_P_ALL))

    def run(self):
        """For a thread of its own."""
        while True:
            frame = self.receive(0)
            with self.lock:
                self.keep(frame)
                # Or the lock would be taken anew for each frame of a flood.
                self.drain(256)

    def drain(self, most):
        for _ in range(most):
            try:
                self.keep(self.receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                return

    def receive(self, flags):
        data, control, _, address = self.sock.recvmsg(1 << 18, 256, flags)
        return data, control, address[2], time.time()

    def keep(self, received):
        data, control, kind, now = received
        status = tci = 0
        tpid = 0x8100
        for level, what, value in control:
            if level == SOL_PACKET and what == PACKET_AUXDATA:
                status, _, _, _, _, tci, tag = struct.unpack("=3I4H", value[:20])
                tpid = tag if status & VLAN_TPID_VALID else tpid
        # The kernel takes the tag out of the frame; put it back.
        if status & VLAN_VALID:
            data = data[:12] + struct.pack("!2H", tpid, tci) + data[12:]
        if is_control(data):
            return
        direction = "to-guest" if kind == PACKET_OUTGOING else "from-guest"
        checksum = "partial" if status & CSUM_NOT_READY else "full"
        self.frames.append(Frame(self.next, now, direction, data, checksum))
        self.next += 1
        self.held_bytes += len(data)
        while self.held_bytes > KEEP_BYTES:
            self.held_bytes -= len(self.frames.popleft().data)

    def since(self, cursor, most):
        """(frames from cursor on, next cursor, how many of those are gone)"""
        with self.lock:
            # Whatever crossed the tap before we were asked is in the socket.
            self.drain(1 << 20)
            # The kernel's count starts anew with each reading.
            raw = self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            self.dropped += struct.unpack("=2I", raw)[1]
            oldest = self.frames[0].n if self.frames else self.next
            lost = self.dropped + max(0, oldest - cursor)
            skip = max(0, cursor - oldest)
            some = [self.frames[i] for i in range(skip, min(len(self.frames), skip + most))]
            return some, (some[-1].n + 1 if some else self.next), lost


def is_control(data):
    """The agent's own traffic, which would make a capture of its reading."""
    return (
        len(data) > 38
        and data[12:14] == b"\x08\x00"
        and data[23] == socket.IPPROTO_TCP
        and CONTROL_PORT in struct.unpack_from("!2H", data, 14 + (data[14] & 15) * 4)
    )
