"""What lies beside a float file for a compiler that quantizes it, and what that compiler makes of it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.compilers.job import CompilerJob
from vit_edge.host.compilers.known import compiled, compiles_for
from vit_edge.host.hybrid.choose import Choice, choice, input_ranges
from vit_edge.host.quantize.search import Search
from vit_edge.manifest import CompiledRecord, Role, compiler_name
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.dataset import evenly
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import feed_of
from vit_edge.spec import PreprocessSpec

IMAGES = 20  # for ranges; compilers that look for ranges of their own are given as many


@dataclasses.dataclass(frozen=True, eq=False)
class Beside:
    """For the float files of targets whose compilers quantize."""

    files: Mapping[str, tuple[bytes, Role]]
    """How each is to be quantized, as JSON, and what a compiler made of it; by path in the bundle."""
    compiled: tuple[CompiledRecord, ...]
    """What the compilers say of that."""
    notes: tuple[str, ...]
    """What a verdict on a float file does not tell."""


def files_beside(
    models: Mapping[str, ModelFile],
    wanted: Sequence[FileWanted],
    search: Search,
    preprocess: PreprocessSpec,
    settings: BuildSettings,
    progress: Progress,
    folder: Path,
) -> Beside:
    """For each float file of a target whose compiler quantizes, how it is to, and what it made of it.

    Args:
        models: the bundle's, by name.
        wanted: the files that the build was to make.
        search: has calibrated, and found the range of what goes into each layer.
        preprocess: from image to model input.
        settings: `limits` of decoding, and `compiler`, where one is at hand.
        progress: told what is being done.
        folder: for what a compiler writes.

    Raises:
        ImageError: an image cannot be read.
        UsageError: the compiler fails.
    """
    files: dict[str, tuple[bytes, Role]] = {}
    records, notes = [], []
    choices: dict[tuple[bytes, float], Choice] = {}  # targets of one file differ in the device alone
    named = [each for each in wanted if each.name in models and each.target.quantized_by_compiler]
    paths = evenly(search.calibration.images, IMAGES) if named else ()
    pixels = [load_pixels(path, preprocess, settings.quantize.limits)[None] for path in paths]
    for each in named:
        target, model = each.target, models[each.name]
        feeds = [feed_of(model, image, preprocess) for image in pixels]
        graph, share = onnx.load_from_string(model.data), 1.0 - target.wide_macs
        key = model.data, share
        if key not in choices:
            step = step_of(progress, f"quantize for {target.name}")
            choices[key] = choice(graph, feeds, share, input_ranges(search.plan_set.exact), step)
        chosen = choices[key]
        told = json.dumps(chosen.to_json(), indent=1).encode()
        files[compiler_name(target.name)] = told, Role.CONFIG
        notes.append(
            f"{each.name} is float, and so is what its verdict tells: of what the target's compiler makes of "
            f"it in 8 bits the CPU expects {chosen.expected_db[chosen.found_by]:.1f} dB, and no image was run"
        )
        if settings.compiler is not None and compiles_for(target):
            step_of(progress, f"compile for {target.name}")(0, 1)
            job = CompilerJob(graph, feeds, chosen, target, settings.compiler, folder / target.name)
            data, record = compiled(job)
            files[record.path] = data, Role.COMPILED
            records.append(record)
    return Beside(files, tuple(records), tuple(notes))
