"""One measured value and what one needs to judge it."""
from dataclasses import dataclass

MIB = 1 << 20


@dataclass
class Sample:
    rate: float  # in the workload's unit, per second the CPU worked
    ns_per_unit: float  # CPU time per unit; instructions under -icount
    lost: float  # share of what was sent that did not arrive
    waited: float  # share of the elapsed time the CPU had nothing to do
    units: int  # packets, MiB or transactions that arrived
    counted: int | None = None  # packets out of the container, where the variant counts them


def of_packets(sent, arrived, busy, elapsed):
    """In thousands per second; times in ns."""
    return Sample(
        rate=arrived / busy * 1e6,
        ns_per_unit=busy / arrived,
        lost=1 - arrived / sent,
        waited=1 - busy / elapsed,
        units=arrived,
    )


def of_bytes(size, busy, elapsed):
    """In Mbit/s."""
    return Sample(
        rate=size * 8 / busy * 1e3,
        ns_per_unit=busy / (size / MIB),
        lost=0.0,
        waited=1 - busy / elapsed,
        units=size // MIB,
    )


def of_transactions(count, busy, elapsed):
    """Per second."""
    return Sample(
        rate=count / busy * 1e9,
        ns_per_unit=busy / count,
        lost=0.0,
        waited=1 - busy / elapsed,
        units=count,
    )
