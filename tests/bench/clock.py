"""Time the guest's CPU worked, apart from the time it waited for the world outside.

Under -icount an idle CPU's clock jumps to its next timer, so elapsed time says nothing where a
sender waits for an acknowledgement. Here a process that runs only when nothing else wants to
(SCHED_IDLE) counts how often it turns; each turn takes the same number of instructions. Elapsed
time less its turns is what the work took, interrupts and softirqs included, exact to a microsecond.
"""
import mmap
import os
import signal
import time


class Wall:
    """Elapsed time: where instructions are not counted, and more than one CPU works."""

    unit = "wall"

    def now(self):
        return time.perf_counter_ns(), 0

    def since(self, start):
        """(nanoseconds of work, nanoseconds elapsed)"""
        elapsed = time.perf_counter_ns() - start[0]
        return elapsed, elapsed

    def close(self):
        pass


class Busy:
    """One nanosecond is one instruction."""

    unit = "instructions"
    CALIBRATE_SECONDS = 0.3

    def __init__(self):
        memory = mmap.mmap(-1, 8)
        self.turns = memoryview(memory).cast("Q")
        self.child = os.fork()
        if self.child == 0:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            turns = self.turns
            while True:
                turns[0] += 1
        self.ns_per_turn = 0
        start = self.now()
        time.sleep(self.CALIBRATE_SECONDS)
        elapsed, turns = (b - a for a, b in zip(start, self.now()))
        self.ns_per_turn = elapsed / turns

    def now(self):
        return time.perf_counter_ns(), self.turns[0]

    def since(self, start):
        elapsed, turns = (b - a for a, b in zip(start, self.now()))
        return elapsed - turns * self.ns_per_turn, elapsed

    def close(self):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
