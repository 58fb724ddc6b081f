"""Kill a program with SIGKILL at random moments while it writes, and see what it leaves behind.

Usage: python -m tools.kill_test JOB [--kills N] [--seed N] [--json FILE]

JOB is `build`, the whole `vit-edge build` of the embedded digits model with a calibration cache, or `bundle`,
which writes one bundle over another as fast as it can. After each kill the output must be absent or complete,
and the next run must succeed. Half of the kills come at a moment drawn from the whole run, the other half
while a file is being written. POSIX only.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from vit_edge.bundle import FileEntry, Manifest, Role, SourceRecord, verify_bundle, write_bundle
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

ROOT = Path(__file__).resolve().parent.parent
STALE = 2 * 3600  # seconds; what is older than an hour may be removed by the next run
TIME_LIMIT = 600  # seconds for one run


@dataclasses.dataclass(frozen=True)
class Job:
    """What is run and killed in a folder of its own; `bundle` in it is the output."""

    prepare: Callable[[Path], None]  # once
    run: Callable[[Path], None]  # to the end, or raises
    endless: bool  # begins again until it is killed


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill and what it left."""

    moment: str  # "any", or "writing": while a draft lay in the folder
    seconds: float  # after the start
    existed: bool  # there was an earlier output
    output: str  # "absent" or "complete"
    drafts: int  # unfinished files and folders left behind


class Failure(Exception):  # noqa: N818  what the test found is no error of the program
    """What must not happen after a kill."""


def build_job() -> Job:
    """The whole build; what is imported here is not imported again in every run."""
    import torch

    from tools.digits import make_folders
    from vit_edge.cli import main as command
    from vit_edge.host import sources
    from vit_edge.host.bundling import build

    del build, sources
    torch.set_num_threads(1)

    def prepare(folder: Path) -> None:
        make_folders(folder / "digits")
        for part, kept in (("calibration", 3), ("test", 2)):
            for images in (folder / "digits" / part).iterdir():
                for path in sorted(images.iterdir())[kept:]:
                    path.unlink()

    def run(folder: Path) -> None:
        digits = folder / "digits"
        words = [
            *("build", str(ROOT / "models" / "digits_vit"), "-o", str(folder / "bundle")),
            *("--calib", str(digits / "calibration"), "--data", str(digits / "test")),
            *("--calib-cache", str(folder / "cache"), "--max-drop", "100", "--threads", "1"),
        ]
        status = command(words)
        if status != 0:
            raise Failure(f"the build ends with status {status}")

    return Job(prepare, run, endless=False)


def bundle_job() -> Job:
    """Bundles of six files and two megabytes, each different from the one before."""

    def run(folder: Path) -> None:
        random_bytes = random.Random(os.getpid()).randbytes  # noqa: S311  any bytes will do
        files = {f"onnx/model_{index}.onnx": random_bytes(400_000) for index in range(5)}
        files["README.md"] = b"A bundle.\n"
        half = (0.5, 0.5, 0.5)
        manifest = Manifest(
            files={
                name: FileEntry.of(data, Role.LOWERED if name.endswith(".onnx") else Role.DOCUMENT)
                for name, data in files.items()
            },
            default_model="onnx/model_0.onnx",
            preprocess=PreprocessSpec(8, 8, ResizeMode.NONE, (8, 8), Interpolation.BICUBIC, half, half),
            source=SourceRecord("example", "0" * 64),
            tools={},
        )
        write_bundle(folder / "bundle", files, manifest)

    return Job(lambda folder: folder.mkdir(exist_ok=True), run, endless=True)


JOBS: dict[str, Callable[[], Job]] = {"build": build_job, "bundle": bundle_job}


def kill_many(job: Job, folder: Path, kills: int, seed: int) -> Iterator[Kill]:
    """Kill so many runs, each followed by a run to the end.

    Args:
        job: what to run.
        folder: an empty folder.
        kills: how many.
        seed: of the moments.

    Raises:
        Failure: an output that is neither absent nor complete, or a next run that fails.
    """
    draw = random.Random(seed)  # noqa: S311  moments, not secrets
    job.prepare(folder)
    began = time.monotonic()
    finish(job, folder)
    length = 0.5 if job.endless else time.monotonic() - began
    done = 0
    while done < kills:
        existed = done % 4 >= 2
        if not existed:
            shutil.rmtree(folder / "bundle", ignore_errors=True)
        if draw.random() < 0.5:
            shutil.rmtree(folder / "cache", ignore_errors=True)
        moment = "writing" if done % 2 else "any"
        seconds = kill_one(job, folder, moment, draw.uniform(0, 0.01 if moment == "writing" else length))
        if seconds is None:
            continue  # it had finished
        yield Kill(moment, seconds, existed, output_of(folder), len(drafts(folder)))
        finish(job, folder)
        done += 1
    sweep(job, folder)


def kill_one(job: Job, folder: Path, moment: str, delay: float) -> float | None:
    """Start a run and kill it; seconds after its start, None where it had finished before."""
    before = set(drafts(folder))
    process = start(job, folder, job.endless)
    began = time.monotonic()
    if moment == "writing":
        while (
            not set(drafts(folder)) - before and not ended(process) and time.monotonic() - began < TIME_LIMIT
        ):
            time.sleep(0.0002)
    time.sleep(delay)
    seconds = time.monotonic() - began
    if ended(process):
        return None
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return seconds


def finish(job: Job, folder: Path) -> None:
    """A run to the end, whose output must be complete."""
    process = start(job, folder, endless=False)
    _, status = os.waitpid(process, 0)
    if status != 0:
        raise Failure(f"the next run fails: {(folder / 'log').read_text()[-2000:]}")
    if output_of(folder) != "complete":
        raise Failure("the next run leaves no bundle")


def output_of(folder: Path) -> str:
    """Whether the output is absent or complete.

    Raises:
        BundleError: it is neither.
    """
    bundle = folder / "bundle"
    if not bundle.exists():
        return "absent"
    listed = {*verify_bundle(bundle).manifest.files, "vit_edge.json"}
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    if found != listed:
        raise Failure(f"the bundle holds what it does not list: {sorted(found ^ listed)}")
    return "complete"


def drafts(folder: Path) -> list[Path]:
    """Unfinished files and folders beside the output and in the cache."""
    cached = [path for path in (folder / "cache").glob("*") if path.suffix != ".npz"]
    return [*folder.glob(".bundle.*"), *cached]


def sweep(job: Job, folder: Path) -> None:
    """When they are old, a later run removes the drafts of the bundles."""
    for path in folder.glob(".bundle.*"):
        os.utime(path, (time.time() - STALE,) * 2)
    finish(job, folder)
    left = list(folder.glob(".bundle.*"))
    if left:
        raise Failure(f"drafts stay for ever: {left[0].name}")


def start(job: Job, folder: Path, endless: bool) -> int:
    """A child process that runs the job; what it prints goes to `log`."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        (folder / "temporary").mkdir(exist_ok=True)
        tempfile.tempdir = str(folder / "temporary")
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        job.run(folder)
        while endless:
            job.run(folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(argv: list[str] | None = None) -> int:
    """Kill, and print one line per kill."""
    parser = argparse.ArgumentParser(prog="python -m tools.kill_test")
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--kills", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all kills as JSON")
    args = parser.parse_args(argv)
    done = []
    with tempfile.TemporaryDirectory(prefix="vit-edge-kill-") as folder:
        for kill in kill_many(JOBS[args.job](), Path(folder), args.kills, args.seed):
            done.append(kill)
            state = "over an earlier bundle" if kill.existed else "with no earlier bundle"
            print(
                f"{len(done):3}  {kill.moment:7} after {kill.seconds:6.3f} s, {state}: {kill.output}, "
                f"{kill.drafts} drafts left; the next run succeeds",
                flush=True,
            )
    complete = sum(kill.output == "complete" for kill in done)
    print(
        f"{len(done)} kills: {complete} left a complete bundle, {len(done) - complete} none, 0 a broken one"
    )
    if args.json is not None:
        args.json.write_text(json.dumps([dataclasses.asdict(kill) for kill in done], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
