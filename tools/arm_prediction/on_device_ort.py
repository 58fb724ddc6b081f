"""Runs in the emulated device's Python: one warm inference of any ONNX file, between the counter's marks.

Usage: python on_device_ort.py MODEL OUT

The file states nothing of itself, so onnxruntime runs it with its defaults, on zeros, with one thread.
"""

import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    feed = {taken.name: np.zeros(taken.shape, np.float32)}
    session.run(None, feed)
    os.sched_yield()
    session.run(None, feed)
    os.sched_yield()
    Path(sys.argv[2]).write_text("[]", encoding="utf-8")


if __name__ == "__main__":
    main()
