"""Which class a 64-bit Arm instruction belongs to, from its 32 bits.

After the encoding tables of the Arm Architecture Reference Manual for A-profile (DDI 0487), chapter C4. Only
classes that tell kernels apart have a name; all others are scalar or of other vector arithmetic.
"""

import enum
from collections import Counter
from collections.abc import Mapping


class InstructionClass(enum.Enum):
    """What an instruction is for, as far as kernels of neural networks differ in it."""

    DOT = "integer dot product (SDOT, UDOT)"
    MULTIPLY_LONG = "integer multiply to twice the width (SMULL, SMLAL, UMULL, UMLAL)"
    PAIRWISE_ADD = "pairwise add and accumulate (SADALP, UADALP)"
    FLOAT_FMA = "float multiply-add, vector (FMLA, FMLS)"
    FLOAT_DIVIDE = "float divide or square root"
    OTHER_VECTOR = "other vector or scalar float arithmetic"
    LOAD_VECTOR = "load to vector registers"
    STORE_VECTOR = "store from vector registers"
    LOAD_STORE = "other loads and stores"
    BRANCH = "branch, call or system"
    INTEGER = "other integer arithmetic"


_C = InstructionClass
# (mask, value, class): the first that fits counts.
_VECTOR = (
    # 0 Q U 01110 size 0 Rm 100101 Rn Rd: SDOT and UDOT of vectors, then of one element (opcode 1110)
    (0x9F20FC00, 0x0E009400, _C.DOT),
    (0x9F00F400, 0x0F00E000, _C.DOT),
    # 0 Q U 01110 size 1 Rm opcode 00 Rn Rd, of different widths: SMLAL 1000, SMLSL 1010, SMULL 1100
    (0x9F20FC00, 0x0E208000, _C.MULTIPLY_LONG),
    (0x9F20FC00, 0x0E20A000, _C.MULTIPLY_LONG),
    (0x9F20FC00, 0x0E20C000, _C.MULTIPLY_LONG),
    # the same by one element: SMLAL 0010, SMLSL 0110, SMULL 1010
    (0x9F00F400, 0x0F002000, _C.MULTIPLY_LONG),
    (0x9F00F400, 0x0F006000, _C.MULTIPLY_LONG),
    (0x9F00F400, 0x0F00A000, _C.MULTIPLY_LONG),
    # 0 Q U 01110 size 10000 00110 10 Rn Rd
    (0x9F3FFC00, 0x0E206800, _C.PAIRWISE_ADD),
    # FMLA and FMLS: of single or double, of half precision, then by one element (opcodes 0001 and 0101)
    (0xBF20FC00, 0x0E20CC00, _C.FLOAT_FMA),
    (0xBF60FC00, 0x0E400C00, _C.FLOAT_FMA),
    (0xBF60FC00, 0x0EC00C00, _C.FLOAT_FMA),
    (0xBF00B400, 0x0F001000, _C.FLOAT_FMA),
    # FDIV and FSQRT of vectors, then scalar
    (0xBFA0FC00, 0x2E20FC00, _C.FLOAT_DIVIDE),
    (0xBFBFFC00, 0x2EA1F800, _C.FLOAT_DIVIDE),
    (0xFF20FC00, 0x1E201800, _C.FLOAT_DIVIDE),
    (0xFF3FFC00, 0x1E21C000, _C.FLOAT_DIVIDE),
)


def class_of(word: int) -> InstructionClass:
    """The class of an instruction.

    Args:
        word: its 32 bits, as a number.
    """
    group = word >> 25 & 0xF  # op0 of the main encoding table
    if group & 0b0101 == 0b0100:
        return _memory(word)
    if group & 0b0111 == 0b0111:
        fits = (found for mask, value, found in _VECTOR if word & mask == value)
        return next(fits, _C.OTHER_VECTOR)
    return _C.BRANCH if group & 0b1110 == 0b1010 else _C.INTEGER


def _memory(word: int) -> InstructionClass:
    if not word >> 26 & 1:
        return _C.LOAD_STORE
    family = word >> 27 & 0b111
    if family == 0b011:  # a literal: always a load
        return _C.LOAD_VECTOR
    load = word >> 22 & (0b11 if family == 0b111 else 1)  # opc of one register, L of a pair or of structures
    return _C.LOAD_VECTOR if load & 1 else _C.STORE_VECTOR


def words_of(block: str) -> tuple[int, ...]:
    """The instructions of a block, eight hexadecimal digits each."""
    return tuple(int(block[i : i + 8], 16) for i in range(0, len(block), 8))


def by_class(runs: Mapping[str, int]) -> dict[InstructionClass, int]:
    """Executed instructions of each class.

    Args:
        runs: how often each block ran.
    """
    found: Counter[InstructionClass] = Counter()
    for block, times in runs.items():
        for word in words_of(block):
            found[class_of(word)] += times
    return dict(found)
