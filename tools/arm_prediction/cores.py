"""The cores that are predicted, the public models of their pipelines, and boards that have them."""

import dataclasses

from tools.arm64_parity.emulator import CORES_TESTED, Core


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A core's issue and execution, as published."""

    core: Core
    scheduling: str
    """The processor whose model llvm-mca takes: pipes, latencies, width of dispatch and reorder buffer."""
    decoded: int
    """Instructions decoded per cycle at most."""
    sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Board:
    """A board that has such a core."""

    name: str
    pipeline: Pipeline
    gigahertz: float


_A72, _A76 = CORES_TESTED
CORTEX_A72 = Pipeline(
    _A72,
    "cortex-a72",
    3,
    (
        "LLVM's AArch64SchedA57.td, its model of Cortex-A57 and A72 alike, after Arm's Cortex-A57 Software"
        " Optimization Guide (UAN 0015): 128-bit FMLA 1 a cycle, SMULL and SMLAL 1, SADALP 1, loads 1,"
        " stores 1",
        "Arm Cortex-A72 Software Optimization Guide (UAN 0016), 4.1: three micro-operations a cycle",
    ),
)
CORTEX_A76 = Pipeline(
    _A76,
    "neoverse-n1",
    4,
    (
        "LLVM's AArch64SchedNeoverseN1.td, after Arm's Neoverse N1 Software Optimization Guide; N1 is the"
        " A76 for servers: 128-bit FMLA 2 a cycle, SDOT and UDOT 2, SMULL and SMLAL 1, SADALP 1, loads 2",
        "Arm Cortex-A76 Software Optimization Guide (PJDOC-466751330-7215): four instructions a cycle",
    ),
)
PI_4 = Board("Raspberry Pi 4", CORTEX_A72, 1.8)
PI_5 = Board("Raspberry Pi 5", CORTEX_A76, 2.4)
BOARDS = (PI_4, PI_5)
