"""What people write by hand: torchvision's preprocessing in Pillow and numpy, and onnxruntime."""

from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from vit_edge.bundle import Role
from vit_edge.runtime.image.preprocess import resized_size
from vit_edge.runtime.model.file import read_model


class PlainPillow:
    """The float model with torchvision's preprocessing, written out in Pillow and numpy."""

    def __init__(self, path: Path, role: Role | None, threads: int) -> None:
        model = read_model(path, role)
        if model.preprocess is None:
            raise SystemExit(f"{model.path} does not carry its preprocessing")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # its warnings are about its own optimisations
        self.session = onnxruntime.InferenceSession(model.data, options, ["CPUExecutionProvider"])
        self.spec = model.preprocess

    def __call__(self, path: Path) -> object:
        """Logits (1, C) of one photo."""
        spec = self.spec
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image = image.resize(resized_size(*image.size, spec), Image.Resampling[spec.interpolation.name])
        left, top = (image.width - spec.width) // 2, (image.height - spec.height) // 2
        crop = image.crop((left, top, left + spec.width, top + spec.height))
        values = np.asarray(crop, np.float32) / 255
        values = (values - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
        feed = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
        return self.session.run(["logits"], {"pixel_values": feed})[0].argmax()
