"""Marks for where.c: spans that QEMU counts block by block, and the ends of samples."""
import ctypes
import mmap

import clock

# As in where.c. Code there does nothing: that it runs is the mark.
PAGE = 0x13370000
START, END, SAMPLE = PAGE, PAGE + 0x10, PAGE + 0x20
RETURN = b"\xc3"
MAP_FIXED_NOREPLACE = 0x100000


def map_page():
    """Once; processes that are forked later have it, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    if libc.mmap(PAGE, mmap.PAGESIZE, rights, kind, -1, 0) != PAGE:
        raise OSError(ctypes.get_errno(), f"map the page at {PAGE:#x}")
    for address in (START, END, SAMPLE):
        ctypes.memmove(address, RETURN, len(RETURN))


def mark(address):
    ctypes.CFUNCTYPE(None)(address)()


def count(function):
    """What function() makes the guest do is a span."""
    mark(START)
    function()
    mark(END)


def end_sample():
    mark(SAMPLE)


class Marked(clock.Busy):
    """Its spans are counted."""

    def now(self):
        start = super().now()
        mark(START)
        return start

    def since(self, start):
        mark(END)
        return super().since(start)
