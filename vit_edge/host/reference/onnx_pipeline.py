"""An ONNX file beside an image processor, as optimum runs it: transformers' processor, then onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_edge.errors import SourceError, VitEdgeError
from vit_edge.host.convert.answers import answers_of
from vit_edge.host.convert.normal import image_input
from vit_edge.host.convert.onnx_io import read_onnx
from vit_edge.host.ort import runner
from vit_edge.host.reference.processor_pipeline import ProcessorPipeline
from vit_edge.host.reference.transformers_pipeline import image_processor
from vit_edge.host.reference.types import Answer, answer_of
from vit_edge.host.sources.quiet import installed_transformers, loading
from vit_edge.host.sources.types import Source


class OnnxPipeline(ProcessorPipeline):
    """The file as its maker left it, in onnxruntime, behind transformers' Pillow-backed processor.

    Args:
        folder: with the processor's config.
        source: the ONNX file, and what its numbers mean.
        processor: a processor's config in place of the folder's.

    Raises:
        SourceError: transformers is not installed, or the file takes something else than its processor makes.
    """

    def __init__(self, folder: Path, source: Source, processor: dict[str, Any] | None) -> None:
        transformers: Any = installed_transformers()
        file, name = source.onnx_path, source.name
        assert file is not None  # noqa: S101  an ONNX source
        try:
            answers = answers_of(read_onnx(file), name, source.output_name, source.output)
            model = answers.as_given or answers.model
            image = image_input(model, name)
            self._run = runner(model, name)
        except VitEdgeError as error:
            raise SourceError(f"the file cannot be run as it is: {error}") from error
        if image.channels_last or image.kind == 2:  # TensorProto.UINT8
            raise SourceError(
                "transformers' processors make channels first and normalised, which the file does not take: "
                "name what answers for it with --reference"
            )
        with loading("transformers", folder.name):
            self._processor = image_processor(folder, processor)
        self._kind, self._end = source.output, answers.stripped
        self._dtype = np.float16 if image.kind == 10 else np.float32
        self._load = transformers.image_utils.load_image
        self.name = (
            f"onnxruntime on {file.name} with {type(self._processor).__name__} of transformers "
            f"{transformers.__version__}{'' if processor is None else ', with the stated options'}"
        )

    def answer(self, path: Path) -> Answer:
        """What the file's own numbers say."""
        with self.running(path):
            values = self._values(self.pixel_values(path))
        return answer_of(values, self._kind, activated=self._end in ("Softmax", "Sigmoid"))

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Before a final Softmax (up to a constant) or Sigmoid."""
        values = self._values(pixel_values).astype(np.float64)
        if self._end == "Sigmoid":
            values = np.log(values) - np.log1p(-values)
        elif self._end == "Softmax":
            values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
        return values.astype(np.float32)

    def _values(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(self._run(pixel_values[None].astype(self._dtype))[0], np.float32)
