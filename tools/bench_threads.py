"""Times ways to spread a model over threads, with none, one and more of the cores kept busy by others.

`onnxruntime` is its own default: a thread for each core, and threads that wait keep their core meanwhile.
`default` is what vit-edge makes of it: they give it up after a moment. `one thread` is that of
`Classifier.for_server`. `auto` is `threads="auto"`, measured anew in each case, as on first use. All run in
turn, so that what else the machine does strikes all alike.
"""

import argparse
import contextlib
import dataclasses
import functools
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


def ways() -> dict[str, SessionSettings]:
    """What is compared, onnxruntime's own default first."""
    return {
        "onnxruntime": SessionSettings(spinning=True),
        "default": SessionSettings(),
        "one thread": SessionSettings(threads=1),
        "auto": SessionSettings(threads="auto"),
    }


def measure(model: ModelFile, size: tuple[int, int], busy: int, rounds: Rounds) -> dict[str, Any]:
    """Each way with so many cores busy."""
    pixels = random_pixels(1, size)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder}),
        busy_cores(busy),
    ):
        sessions = {name: Session(model, settings) for name, settings in ways().items()}
        runs = [functools.partial(session.run, pixels) for session in sessions.values()]
        times = time_interleaved(runs, rounds)
    ratios = ratios_to_first(times)
    return {
        "busy": busy,
        "ways": {
            name: dataclasses.asdict(latency(times[:, place]))
            | {
                "threads": session.settings.threads,
                "spinning": session.settings.spinning,
                "ratio": ratios[place].median,
                "quartiles": ratios[place].quartiles,
            }
            for place, (name, session) in enumerate(sessions.items())
        },
    }


def line(found: dict[str, Any]) -> str:
    parts = []
    for name, each in found["ways"].items():
        threads = "" if each["threads"] is None else f"{each['threads']} threads"
        spinning = {None: "", True: "spinning", False: "not spinning"}[each["spinning"]]
        said = ", ".join(filter(None, (threads, spinning))) if name == "auto" else ""
        parts.append(
            f"{name}{f' ({said})' if said else ''} {each['median_ms']:.2f} ms, ratio {each['ratio']:.2f}"
        )
    return f"{found['busy']} cores busy: {'; '.join(parts)}"


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
