"""Runs in the emulated device's Python: one warm inference of a network by ncnn, between the counter's marks.

Usage: python on_device_ncnn.py NETWORK.param WEIGHTS OUT

The weights are zeros: what a kernel executes does not depend on them.
"""

import os
import sys
from pathlib import Path

import ncnn  # type: ignore[import-not-found]  # of the device alone
import numpy as np


def main() -> None:
    network, weights, out = map(Path, sys.argv[1:])
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.lightmode = True
    if net.load_param(str(network)) or net.load_model(str(weights)):
        sys.exit(f"{network} or {weights} cannot be loaded")
    image = ncnn.Mat(np.full((3, 224, 224), 0.01, np.float32))
    last = network.read_text(encoding="ascii").splitlines()[-1].split()  # type, name, inputs, outputs, names
    output = last[4 + int(last[2])]
    infer(net, image, output)
    os.sched_yield()
    infer(net, image, output)
    os.sched_yield()
    out.write_text("[]", encoding="utf-8")


def infer(net: ncnn.Net, image: ncnn.Mat, output: str) -> None:
    extractor = net.create_extractor()
    extractor.input("data", image)
    status, _ = extractor.extract(output)
    if status:
        sys.exit(f"ncnn ends with status {status}")


if __name__ == "__main__":
    main()
