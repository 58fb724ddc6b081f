"""Times `threads="auto"` against onnxruntime's default, with none, one and more of the cores kept busy.

In each case the number of threads is measured anew, as on first use; then both ways run in turn. Two threads
that wait for each other by spinning can be slower than one where something else wants a core.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from vit_edge.runtime.device.machine import describe_machine, usable_cores
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.measure.timing import Rounds, latency, ratios_to_first, time_interleaved
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import Session, SessionSettings


@contextlib.contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(model: ModelFile, size: tuple[int, int], busy: int, rounds: Rounds) -> dict[str, Any]:
    """What auto chooses with so many cores busy, and how it compares."""
    pixels = random_pixels(1, size)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder}),
        busy_cores(busy),
    ):
        plain, tuned = Session(model), Session(model, SessionSettings(threads="auto"))
        times = time_interleaved([lambda: plain.run(pixels), lambda: tuned.run(pixels)], rounds)
    ratio = ratios_to_first(times)[1]
    return {
        "busy": busy,
        "threads": tuned.settings.threads,
        "spinning": tuned.settings.spinning,
        "default": dataclasses.asdict(latency(times[:, 0])),
        "auto": dataclasses.asdict(latency(times[:, 1])),
        "ratio": ratio.median,
        "quartiles": ratio.quartiles,
    }


def line(found: dict[str, Any]) -> str:
    low, high = found["quartiles"]
    threads = "default" if found["threads"] is None else f"{found['threads']} threads"
    spinning = {None: "", True: ", spinning", False: ", not spinning"}[found["spinning"]]
    default, auto = (found[way]["median_ms"] for way in ("default", "auto"))
    return (
        f"{found['busy']} cores busy: default {default:.2f} ms, auto ({threads}{spinning}) {auto:.2f} ms, "
        f"ratio {found['ratio']:.2f} ({low:.2f} to {high:.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="ONNX file or bundle")
    parser.add_argument("--busy", type=int, nargs="+", help="cores to keep busy (default: 0 to all)")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    model = read_model(given.model)
    if model.input_size is None:
        parser.error(f"{given.model} does not say its image size; export it with a fixed size")
    cases = list(range(usable_cores() + 1)) if given.busy is None else given.busy
    found = []
    for busy in cases:
        found.append(measure(model, model.input_size, busy, Rounds(given.rounds, 0)))
        print(line(found[-1]), flush=True)
    machine = describe_machine()
    print(f"{machine.cpu}, {machine.cores} cores, {machine.system}, onnxruntime {machine.onnxruntime}")
    if given.json is not None:
        report = {"cases": found, "machine": machine.to_json()}
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
