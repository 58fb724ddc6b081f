"""Every quantizer's files in every engine that takes them: made, answered, and timed in turn."""

import argparse
import contextlib
import dataclasses
import hashlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.peers.catalogue import ELSEWHERE, ENGINES, ENVIRONMENTS, Variant
from tools.peers.environments import Installed, prepare, python_of
from tools.peers.exported import SETTINGS, exported
from tools.peers.inputs import images_of
from tools.peers.lines import lines_of
from tools.peers.making import RECIPES, Given, quantized
from tools.peers.measure import Floats
from tools.peers.onnxruntime_tools import Calibration
from tools.peers.record import SKIPPED
from tools.peers.report import Measured, rows
from tools.peers.serving import Served, times_in_turn
from tools.peers.workshop import Made, Workshop, basis_of
from vit_edge.errors import ModelError
from vit_edge.host.bundling.images import BuildImages
from vit_edge.host.convert.onnx_io import read_metadata
from vit_edge.host.sources import Source
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.session.placement import as_this_cpu_needs
from vit_edge.spec import InputForm

FLOAT = "float32 as exported"
YARDSTICK = "NNCF, for transformers"
LOGITS, INPUTS = "logits.npy", "inputs.npy"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file in one engine."""

    name: str
    engine: str
    model: Path
    size: int  # bytes
    info: dict[str, Any]
    form: InputForm = InputForm.PIXEL_VALUES


@dataclasses.dataclass(frozen=True)
class Stage:
    """What all entries share."""

    folder: Path  # of the environments
    installed: Mapping[str, Installed]
    workshop: Workshop
    inputs: Path  # .npy, the evaluated images
    limit_s: int  # of a quantizer, seconds of the processor

    def serve(self, entry: Entry) -> Served:
        """A process that has loaded a model.

        Raises:
            ModelError: its engine is not installed, or does not take the model.
        """
        engine = ENGINES[entry.engine]
        reason = self.installed[engine.environment].reason
        if reason is not None:
            raise ModelError(f"{entry.engine} is not there: {reason}")
        python = python_of(ENVIRONMENTS[engine.environment], self.folder)
        return Served(python, engine.module, entry.model, self.inputs, options_of(entry))


def compare(given: argparse.Namespace, source: Source, variants: Sequence[Variant]) -> dict[str, Any]:
    """Make every model, measure it, and say on what."""
    images = images_of(given, source)
    workshop = Workshop(given.work / "models", basis_of(source, images.calibration))
    job = _given(given, source, images, workshop)
    folder = given.work / "environments"
    names = sorted(_environments(variants))
    installed = {name: prepare(ENVIRONMENTS[name], folder) for name in names}
    inputs = _inputs(workshop, source, images.check.paths)
    stage = Stage(folder, installed, workshop, inputs, given.limit_s)
    entries, absent = entries_of(job, stage, variants)
    answered, refused = answers_of(entries, stage)
    times, loads = times_of([entry for entry, _ in answered], stage, given.rounds)
    measured = Measured(
        [entry for entry, _ in answered], [logits for _, logits in answered], images.check.targets, times
    )
    elsewhere = [{"name": name, "note": reason} for name, reason in ELSEWHERE.items()]
    elsewhere += [{"name": name, "note": SKIPPED} for name in given.skip]
    return {
        "model": {"name": source.name, "sha256": source.sha256, "preprocess": source.preprocess.to_json()},
        "limit_s": given.limit_s,
        "calibration": {"name": given.calib.resolve().name, "images": len(images.calibration)},
        "evaluation": {"name": images.check.name, "images": len(images.check)},
        "machine": describe_machine().to_json(),
        "environments": {
            name: dataclasses.asdict(found) | {"versions": found.of_named()}
            for name, found in installed.items()
        },
        "latency": {"threads": 1, "batch": 1, "rounds": len(times)} | loads,
        "rows": rows(measured, YARDSTICK) + refused + absent + elsewhere,
    }


def options_of(entry: Entry) -> dict[str, str]:
    """The session options that an ONNX file asks for on this CPU; none of other files."""
    if entry.model.suffix != ".onnx":
        return {}
    model = onnx.load(entry.model, load_external_data=False)
    return as_this_cpu_needs(read_metadata(model, entry.model.name).session_options)


def _environments(variants: Sequence[Variant]) -> set[str]:
    engines = {ENGINES[engine].environment for variant in variants for engine in variant.engines}
    return engines | {variant.environment for variant in variants} | {ENGINES["onnxruntime"].environment}


def _given(given: argparse.Namespace, source: Source, images: BuildImages, workshop: Workshop) -> Given:
    def copies() -> Made:
        return Made({path.name: path.read_bytes() for path in images.calibration})

    return Given(
        exported(given.source, workshop),
        given.source,
        workshop.make({"name": "calibration-images"}, copies)[0],
        _inputs(workshop, source, images.calibration),
        given.crop_pct,
    )


def _inputs(workshop: Workshop, source: Source, paths: Sequence[Path]) -> Path:
    """Images as the model sees them, float32 (N, 3, H, W), in a .npy."""
    digest = basis_of(source, paths)["calibration"]

    def build() -> Made:
        stream = io.BytesIO()
        np.save(stream, np.concatenate(list(Calibration(paths, source.preprocess).inputs())))
        return Made({INPUTS: stream.getvalue()})

    return workshop.make({"name": "inputs", "images": digest}, build)[0] / INPUTS


def entries_of(
    given: Given, stage: Stage, variants: Sequence[Variant]
) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Every file in every engine, the float model first, and a row for each quantizer that made none."""
    size = given.float_model.stat().st_size
    entries = [Entry(FLOAT, "onnxruntime", given.float_model, size, {"settings": SETTINGS})]
    absent: list[dict[str, Any]] = []
    for variant in variants:
        found = stage.installed[variant.environment]
        info: dict[str, Any] = {"error": found.reason}
        place = Path()
        if found.reason is None:
            _tell(f"{variant.name}: quantized or read")
            python = python_of(ENVIRONMENTS[variant.environment], stage.folder)
            place, info = quantized(variant, python, found.versions, given, stage.workshop, stage.limit_s)
        about = _about(variant) | {key: value for key, value in info.items() if key != "error"}
        if info["error"] is not None:
            absent.append({"name": variant.name, "note": info["error"], "made": about})
            continue
        size = sum(path.stat().st_size for path in place.glob(f"{Path(variant.model).stem}.*"))
        entries += [
            Entry(variant.name, engine, place / variant.model, size, about) for engine in variant.engines
        ]
    return entries, absent


def _about(variant: Variant) -> dict[str, Any]:
    recipe = f"{variant.recipe}.py"
    return {
        "environment": variant.environment,
        "recipe": f"tools/peers/recipes/{recipe}:{variant.function}",
        "lines": lines_of(RECIPES / recipe, variant.function),
        "settings": variant.settings,
    }


def answers_of(
    entries: Sequence[Entry], stage: Stage
) -> tuple[list[tuple[Entry, Floats]], list[dict[str, Any]]]:
    """Logits of every entry that runs, and a row for each that does not."""
    answered: list[tuple[Entry, Floats]] = []
    refused: list[dict[str, Any]] = []
    for entry in entries:
        _tell(f"{entry.name} in {entry.engine}: answers")
        try:
            logits, info = _logits(entry, stage)
        except ModelError as error:
            note = f"{entry.engine} does not run it: {error}"
            refused.append({"name": entry.name, "note": note, "made": entry.info})
            continue
        answered.append((dataclasses.replace(entry, info=entry.info | {"engine": info["engine"]}), logits))
    return answered, refused


def _logits(entry: Entry, stage: Stage) -> tuple[Floats, dict[str, Any]]:
    digest = hashlib.sha256()
    for path in sorted(entry.model.parent.glob(f"{entry.model.stem}.*")):
        digest.update(path.read_bytes())
    recipe = {
        "name": "answers",
        "model": digest.hexdigest(),
        "inputs": stage.inputs.parent.name,
        "engine": entry.engine,
        "options": options_of(entry),
        "versions": stage.installed[ENGINES[entry.engine].environment].versions,
    }

    def build() -> Made:
        with stage.serve(entry) as served, contextlib.ExitStack() as stack:
            place = stage.workshop.folder / f".{os.getpid()}-{LOGITS}"
            stack.callback(lambda: place.unlink(missing_ok=True))
            served.logits(place)
            return Made({LOGITS: place.read_bytes()}, {"engine": served.version})

    place, info = stage.workshop.make(recipe, build)
    return np.asarray(np.load(place / LOGITS), np.float32), info


def times_of(entries: Sequence[Entry], stage: Stage, rounds: int) -> tuple[np.ndarray, dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(stage.serve(entry)) for entry in entries]
        before = os.getloadavg()
        times = times_in_turn(served, rounds)
        return times, {"load_average_before": before, "load_average_after": os.getloadavg()}


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)
