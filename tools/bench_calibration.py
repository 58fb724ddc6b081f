"""Peak memory of the calibration pass against the number of images.

Usage: python -m tools.bench_calibration [--source models/digits_vit] [--images 400 4000]

Every number of images is measured in a process of its own, over the whole pass of `quantize`: decoding, the
float model, extremes, second moments, histograms and row samples of every layer. The images are noise, which
fills the histograms as much as anything can.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vit_edge.runtime.device.machine import describe_machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", default="models/digits_vit")
    parser.add_argument("--images", type=int, nargs="+", default=[400, 4000])
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measured(args.source, Path(args.measure)))
        return 0
    peaks = {count: in_own_process(args.source, count) for count in args.images}
    first = next(iter(peaks.values()))
    print(json.dumps(describe_machine().to_json()))
    for count, peak in peaks.items():
        print(f"{count:6d} images  peak {peak / 1024:8.1f} MB  {peak / first:.3f} of the first")
    return 0


def in_own_process(source: str, count: int) -> int:
    """Peak resident memory in KiB of a pass over `count` images."""
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for i in range(count):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path(folder) / f"{i:05d}.png")
        command = [sys.executable, "-m", "tools.bench_calibration", "--source", source, "--measure", folder]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measured(source: str, folder: Path) -> int:
    """Run the pass here and say the peak so far."""
    from vit_edge.host.convert.export import export
    from vit_edge.host.quantize.observe import observer_of
    from vit_edge.host.quantize.passes import Reader, observed
    from vit_edge.host.rewrite.canonical import canonicalise
    from vit_edge.host.sources import SourceOptions, resolve

    resolved = resolve(source, SourceOptions())
    canonical = canonicalise(export(resolved)[0], source)
    observer = observer_of(canonical, resolved.preprocess)
    observed(observer, sorted(folder.iterdir()), Reader(resolved.preprocess), None, nothing)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def nothing(done: int, count: int) -> None:
    """No progress is wanted."""


if __name__ == "__main__":
    sys.exit(main())
