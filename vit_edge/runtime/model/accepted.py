"""Which model files are refused by their header, before any loader sees them."""

from vit_edge.runtime.model.header import COMPILED, MOST_NODES, OPERATOR_DOMAINS, OnnxHeader, read_header
from vit_edge.runtime.model.own_kernels import check_kernels, need_kernels
from vit_edge.spec import KERNELS_DOMAIN

# Operators that run a graph as often as they like, so that how long one run takes cannot be told.
REPEATING = frozenset(
    {"Loop", "Scan", "SequenceMap", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"}
)


def check_bounded(header: OnnxHeader) -> None:
    """Refuse a graph whose loading or running could take any time at all.

    Raises:
        ValueError: with a clause about the file.
    """
    repeating = sorted(operator for _, operator in header.foreign_operators if operator in REPEATING)
    if repeating:
        raise ValueError(
            f"runs a part of itself as often as it likes ({repeating[0]}), which no ViT needs; "
            "export it without control flow"
        )
    if header.nodes > MOST_NODES:
        raise ValueError(
            f"becomes more than {MOST_NODES} nodes when its functions are expanded, or never ends; "
            "export it without local functions"
        )


def check_self_contained(header: OnnxHeader) -> None:
    """Refuse a model file that is not whole, not bounded, compiled, or foreign to onnxruntime.

    Raises:
        ValueError: with a clause about the file.
    """
    if header.external_data:
        raise ValueError(
            "keeps weights in another file (external data), which is read where models are made, not where "
            "they run; make one file of it: onnx.save(onnx.load(FILE), NEW_FILE)"
        )
    check_bounded(header)
    if any(operator == COMPILED for _, operator in header.foreign_operators):
        raise ValueError(
            "holds a part that is compiled for one device (EPContext), which cannot be checked; "
            "use the portable model, it is compiled where it runs"
        )
    _check_domains(header)


def check_compiled(data: bytes) -> None:
    """Refuse a compiled model that an engine must not load: what `read_model` asks, but that it is compiled.

    Raises:
        ValueError: with a clause about the file.
    """
    header = read_header(data)
    if header.external_data:
        raise ValueError("keeps a part of itself in another file")
    check_bounded(header)
    _check_domains(header)


def _check_domains(header: OnnxHeader) -> None:
    known = OPERATOR_DOMAINS | {KERNELS_DOMAIN}
    foreign = sorted(f"{domain}::{op}" for domain, op in header.foreign_operators if domain not in known)
    if foreign:
        raise ValueError(
            f"uses operators that onnxruntime does not ship ({', '.join(foreign[:3])}); export without them"
        )
    if need_kernels(header.foreign_operators):
        check_kernels()
