"""The float model that every quantizer of ONNX files starts from: what users make."""

from pathlib import Path

import transformers

from tools.bench_graph import case_of_folder, export
from tools.peers.inputs import version
from tools.peers.onnxruntime_tools import FILE
from tools.peers.workshop import Made, Workshop

SETTINGS = "transformers, SDPA attention, torch.onnx.export, dynamic batch"


def exported(folder: Path, workshop: Workshop) -> Path:
    """The file of a transformers' folder, exported where it is not there yet."""
    recipe = {"name": "float", "versions": {name: version(name) for name in ("torch", "transformers")}}

    def build() -> Made:
        transformers.utils.logging.set_verbosity_error()
        return Made({FILE: export(case_of_folder(folder)).SerializeToString(deterministic=True)})

    return workshop.make(recipe, build)[0] / FILE
