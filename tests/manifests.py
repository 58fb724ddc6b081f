"""Records of a manifest for tests that do not build one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vit_edge.bundle import FileEntry, Role, write_bundle
from vit_edge.manifest import (
    AccuracyRecord,
    CheckData,
    FileOutcome,
    Manifest,
    Method,
    Recipe,
    Repair,
    RepairRecord,
    Seen,
    SourceRecord,
)
from vit_edge.spec import OutputKind, PreprocessSpec, Tolerance, Verdict
from vit_edge.verify import judge

METHOD = Method(
    preset="balanced",
    calibration_images=8,
    probe_images=4,
    weights="int8",
    activations="uint8",
    static_ranges={"min-max": 2},
    folds=(),
    bias_correction=True,
    probe_db=26.4,
)


def accuracy(top1_float: float | None = None, verdict: Verdict | None = None) -> AccuracyRecord:
    """Of a gate that really judged, but for the figure and the verdict that are given."""
    logits = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    report = judge(logits, logits + np.float32(0.01), None, Tolerance())
    report = dataclasses.replace(report, top1_float=top1_float, verdict=verdict or report.verdict)
    return AccuracyRecord(
        report=report,
        model="onnx/model_quantized.onnx",
        reference="onnx/model.onnx",
        data=CheckData("toys", 60, top1_float is not None, False, 0, 0, 60),
        tolerance=report.evidence.tolerance,
        notes=(),
        models={"onnx/model_quantized.onnx": report},
        parity={},
    )


def bundle_of_files(
    folder: Path,
    files: Mapping[str, tuple[bytes, Role]],
    default: str,
    spec: PreprocessSpec,
    *,
    judged: AccuracyRecord | None = None,
    output: OutputKind = OutputKind.SINGLE_LABEL,
) -> Path:
    """A bundle that nothing was measured of, but for what a gate said."""
    manifest = Manifest(
        files={name: FileEntry.of(data, role) for name, (data, role) in files.items()},
        default_model=default,
        preprocess=spec,
        source=SourceRecord("toy", "0" * 64),
        tools={},
        accuracy=judged,
        output=output,
        providers={"CPUExecutionProvider": 1.0},
    )
    return write_bundle(folder, {name: data for name, (data, _) in files.items()}, manifest).path


def seen(name: str, verdict: Verdict | None, latency_ratio: float, chosen: bool, reason: str) -> Seen:
    """A model that was seen; the float one, without a verdict, loses nothing."""
    return Seen(
        name=name,
        target_db=None,
        probe_db=None,
        forms=None if verdict is None else {"int8": 4},
        verdict=verdict,
        confidence=None if verdict is None else 0.95,
        sqnr_db=None,
        top1=None,
        agreement=100.0,
        top1_drop=0.0 if verdict is None else 0.4,
        drop_at_most=0.0,
        latency_ratio=latency_ratio,
        size_mb=20.0 if verdict is None else 6.0,
        chosen=chosen,
        reason=reason,
    )


def recipe(method: Method = METHOD) -> Recipe:
    """Of a search that saw the float model and one quantization, which runs."""
    why = "the only quantization of this file that passes"
    return Recipe(
        method=method,
        models={},
        pareto=(
            seen("float", None, 1.0, chosen=False, reason="slower"),
            seen("fast", Verdict.PASS, 0.4, chosen=True, reason=why),
        ),
        repair=RepairRecord(
            mode=Repair.AUTO,
            looks=1,
            looks_allowed=6,
            confidence_first=0.95,
            confidence_repaired=None,
            chosen="fast",
            kept="fast",
            reason=why,
            integer_graph=None,
            files={
                "onnx/model_quantized.onnx": FileOutcome(
                    verdict=Verdict.PASS, kept="fast", good_enough=True, reason=why, timed_on_its_device=True
                )
            },
        ),
    )
