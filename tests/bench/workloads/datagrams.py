"""The program of ../flood.rs at a socket of ours, in the namespace this process is in."""
import fcntl
import socket
import struct
import subprocess
import termios
import time

# More than all the datagrams of a run take.
RECEIVE_BUFFER = 256 << 20
SO_RCVBUFFORCE = 33


class Flood:
    def __init__(self, program, verb, value, sock):
        self.sock = sock
        self.process = subprocess.Popen(
            [program, verb, str(value)],
            stdin=subprocess.PIPE,
            stdout=sock,
            stderr=subprocess.PIPE,
            text=True,
        )

    def order(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stderr.readline()
        if not line:
            raise RuntimeError(f"flood has ended: {self.process.wait()}")
        return line.strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stderr.close()
        self.sock.close()


class Sender(Flood):
    def __init__(self, program, size, address, port):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((address, port))
        super().__init__(program, "send", size, sock)

    def send(self, count):
        """Returns when the device has them all."""
        self.order(count)
        if (answer := self.answer()) != "sent":
            raise RuntimeError(f"flood: {answer}")
        while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.0005)


class Taker(Flood):
    def __init__(self, program, window, bound=None, connected=None):
        """A socket at a port, or one that has an end to tell after each window."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        if bound:
            sock.bind(("", bound))
        if connected:
            sock.connect(connected)
        super().__init__(program, "take", window, sock)

    def taken(self):
        """As many as the program got of the last order, once it has them all."""
        return int(self.answer())
