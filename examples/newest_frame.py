"""A camera faster than the model: python newest_frame.py BUNDLE FOLDER [FRAMES_PER_SECOND] [SECONDS].

Frames that come while the model is busy are dropped, all but the newest, so that an answer is never old. The
images of a folder, shown again and again, stand for a camera. A frame of OpenCV has its colours the other way
round: `frame[..., ::-1]`.
"""

import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vit_edge import Classifier

SUFFIXES = {".jpg", ".jpeg", ".png"}


class Newest:
    """A place for one frame; putting another there drops the one that nobody has taken."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._frame: np.ndarray | None = None
        self._ended = False
        self.dropped = 0

    def put(self, frame: np.ndarray | None) -> None:
        """Leave a frame; None: there are no more."""
        with self._change:
            self.dropped += self._frame is not None and frame is not None
            self._frame = self._frame if frame is None else frame
            self._ended = frame is None
            self._change.notify()

    def take(self) -> np.ndarray | None:
        """Wait for a frame; None where there are no more."""
        with self._change:
            self._change.wait_for(lambda: self._frame is not None or self._ended)
            frame, self._frame = self._frame, None
            return frame


def camera(folder: str, rate: float, seconds: float, place: Newest) -> None:
    """Put frames at a steady rate, then None."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    frames = [np.asarray(Image.open(path).convert("RGB")) for path in paths[:32]]
    for index in range(int(rate * seconds)):
        place.put(frames[index % len(frames)])
        time.sleep(1 / rate)
    place.put(None)


def main(bundle: str, folder: str, rate: str = "30", seconds: str = "10") -> None:
    """Print each answer, and at the end how many frames were read and dropped."""
    classify, place, read = Classifier(bundle), Newest(), 0
    threading.Thread(target=camera, args=(folder, float(rate), float(seconds), place), daemon=True).start()
    while (frame := place.take()) is not None:
        best = classify(frame, top_k=1)[0]
        read += 1
        print(f"{best.label} {best.score:.2f}", flush=True)
    print(f"read {read}, dropped {place.dropped}")


if __name__ == "__main__":
    main(*sys.argv[1:])
