"""One measured value and what one needs to judge it."""
from dataclasses import dataclass


@dataclass
class Sample:
    rate: float  # in the workload's unit, per second the CPU worked
    ns_per_unit: float  # CPU time per packet or per MiB; instructions under -icount
    lost: float  # share of what was sent that did not arrive
    waited: float  # share of the elapsed time the CPU had nothing to do
    units: int  # packets or MiB that arrived
    counted: int | None = None  # packets out of the container, where the variant counts them
