"""Our own presets, through the library."""

import collections
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from tools.peers.workshop import Made, Workshop, package_digest
from vit_edge import plain
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import settings_for
from vit_edge.host.convert.int8 import quantized
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source
from vit_edge.runtime.capabilities import choose_target, this_machine
from vit_edge.runtime.model.own_kernels import kernel_instructions
from vit_edge.spec import GraphStyle, InputForm, TargetSpec
from vit_edge.targets import list_targets, load_target


def forms() -> dict[str, TargetSpec]:
    """What one quantization is written as: portable, for one image, as fits this machine, for own kernels."""
    portable = load_target("cpu")
    here, _ = choose_target(map(load_target, list_targets()), this_machine())
    single = dataclasses.replace(portable, form=dataclasses.replace(portable.form, batch=1))
    own = f"{here.name}, dynamic batch, {'uint8' if here.form.input is InputForm.PIXELS else 'float'} pixels"
    found = {"cpu, dynamic batch": portable, "cpu, batch 1": single, own: here}
    targets = map(load_target, list_targets()) if kernel_instructions() is not None else ()
    return found | {target.name: target for target in targets if target.form.style is GraphStyle.NATIVE}


def presets(
    source: Source, images: Sequence[Path], wanted: Sequence[Preset], workshop: Workshop
) -> list[tuple[str, Path, dict[str, Any]]]:
    """(name, ONNX file, info) of every preset in every form."""
    made = []
    for preset in wanted:
        recipe = {"name": f"vit-edge-{preset.value}", "package": package_digest(), "forms": list(forms())}

        def build(preset: Preset = preset) -> Made:
            return _build(source, images, preset)

        place, info = workshop.make(recipe, build)
        info["recipe"] = {key: value for key, value in info["recipe"].items() if key != "folds"}
        for index, form in enumerate(forms()):
            made.append((f"vit-edge {preset.value} ({form})", place / f"{index}.onnx", info))
    return made


def _build(source: Source, images: Sequence[Path], preset: Preset) -> Made:
    exported, _ = export(source)
    canonical = canonicalise(exported, source.name)
    settings = settings_for(QuantizeSettings(preset, len(images)), forms().values())
    search = search_of(canonical, images, source.preprocess, settings, tell)
    quantization = search.first()
    files = {
        f"{index}.onnx": _bytes(quantized(search.canonical, quantization, target, source))
        for index, target in enumerate(forms().values())
    }
    counts = collections.Counter(layer.form.value for layer in quantization.layers)
    return Made(files, {"recipe": plain.of(quantization.recipe), "layers": dict(counts)})


def _bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def tell(what: str, done: int, count: int) -> None:
    """A line on standard error for each step that is done."""
    if done == count:
        print(f"  {what}: {count} done", file=sys.stderr, flush=True)
