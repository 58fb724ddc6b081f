"""One run of onnxruntime for a session that stands for its Java form."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, name, shape, kind, output, entries = sys.argv[1:]
options = onnxruntime.SessionOptions()
for entry in filter(None, entries.split(";")):
    options.add_session_config_entry(*entry.split("=", 1))
dtype = np.dtype({"FLOAT": "<f4", "UINT8": "u1"}[kind])
sides = [int(side) for side in shape.split(",")]
given = np.frombuffer(Path(folder, "input").read_bytes(), dtype).reshape(
    [int(side) for side in shape.split(",")]
)
model = Path(folder, "model").read_bytes()
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
[made] = session.run([output], {name: given})
Path(folder, "output").write_bytes(made.astype("<f4").tobytes())
