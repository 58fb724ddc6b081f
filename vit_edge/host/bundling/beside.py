"""What lies beside a float file for a compiler that quantizes it: types of products, ranges of tensors."""

import json
from collections.abc import Mapping, Sequence

import onnx

from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.hybrid.choose import choice, input_ranges
from vit_edge.host.quantize.search import Search
from vit_edge.manifest import compiler_name
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.dataset import evenly
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import feed_of
from vit_edge.spec import PreprocessSpec

IMAGES = 20  # for ranges; compilers that look for ranges of their own are given as many


def files_beside(
    models: Mapping[str, ModelFile],
    wanted: Sequence[FileWanted],
    search: Search,
    preprocess: PreprocessSpec,
    limits: DecodeLimits,
    progress: Progress,
) -> dict[str, bytes]:
    """For each float file of a target whose compiler quantizes, how it is to: JSON, by path in the bundle.

    Args:
        models: the bundle's, by name.
        wanted: the files that the build was to make.
        search: has calibrated, and found the range of what goes into each layer.
        preprocess: from image to model input.
        limits: what images are decoded within.
        progress: told what is being done.

    Raises:
        ImageError: an image cannot be read.
    """
    found = {}
    for each in wanted:
        model = models.get(each.name)
        if model is None or not each.target.quantized_by_compiler:
            continue
        pixels = [
            load_pixels(path, preprocess, limits)[None] for path in evenly(search.calibration.images, IMAGES)
        ]
        feeds = [feed_of(model, image, preprocess) for image in pixels]
        step = step_of(progress, f"quantize for {each.target.name}")
        graph, share = onnx.load_from_string(model.data), 1.0 - each.target.wide_macs
        chosen = choice(graph, feeds, share, input_ranges(search.plan_set.exact), step)
        found[compiler_name(each.target.name)] = json.dumps(chosen.to_json(), indent=1).encode()
    return found
