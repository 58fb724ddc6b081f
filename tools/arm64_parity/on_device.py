"""Runs in the device's own Python, with nothing but the device API: the logits of one model file.

Usage: python on_device.py MODEL IMAGES OUT

IMAGES is a text file with one path a line. OUT receives, as JSON, the logits in hexadecimal floating point,
the SHA-256 of every image's pixels after preprocessing, what `Classifier` answers for the first image, and
what ran. The same file runs on the machine that emulates: both sides differ in the processor alone.
"""

import hashlib
import json
import sys
from pathlib import Path

from vit_edge import Classifier, Session, SessionSettings, read_model
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.image.preprocess import load_pixels


def main() -> None:
    model_path, list_path, out = map(Path, sys.argv[1:])
    images = [Path(line) for line in list_path.read_text(encoding="utf-8").splitlines()]
    model = read_model(model_path)
    if model.preprocess is None:
        sys.exit(f"{model_path} does not say how images are preprocessed")
    session = Session(model, SessionSettings(provider="cpu", threads=1))
    logits, pixels = [], []
    for path in images:
        prepared = load_pixels(path, model.preprocess)
        pixels.append(hashlib.sha256(prepared.tobytes()).hexdigest())
        logits.append([float(value).hex() for value in session.run(prepared[None])[0]])
    first = Classifier(model_path, provider="cpu", threads=1)(images[0], top_k=1)[0]
    answer = {
        "logits": logits,
        "pixels": pixels,
        "label": first.label,
        "machine": describe_machine().to_json(),
    }
    out.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
