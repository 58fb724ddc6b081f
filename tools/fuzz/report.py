"""What a run of one target found."""

import dataclasses

INPUT_SECONDS = 10  # one input that takes longer hangs
MEMORY_MB = 1000  # a process that takes more leaks, or was made to allocate


@dataclasses.dataclass(frozen=True)
class Report:
    """One target, fed by one engine."""

    target: str
    engine: str
    inputs: int
    seconds: float
    peak_mb: float  # resident, 10^6 bytes
    finding: str | None = None  # None: nothing but accepted and refused inputs

    def __str__(self) -> str:
        return (
            f"{self.target:9} {self.engine:7} {self.inputs:>9,} inputs {self.seconds:6.0f} s "
            f"{self.peak_mb:5.0f} MB  {self.finding or 'no finding'}"
        )
