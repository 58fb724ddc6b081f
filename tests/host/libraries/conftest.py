"""torchvision of the package index beside torch's CPU build.

Its wheel there is made for CUDA, so its extension does not load, and its import stops at the two operators
of detectors that it registers shapes for. No classifier uses them: they are declared, so that the rest can be
imported.
"""

import importlib.util
import sys
from typing import Any

import torch

_KEPT: list[Any] = []  # libraries; what they declare goes with them

if importlib.util.find_spec("torchvision") is not None:
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        made: Any = torch.library.Library
        _KEPT.append(made("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            _KEPT[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
