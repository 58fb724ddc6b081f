"""A job from its images to its results, gone on with where an earlier run ended."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from vit_edge.errors import UsageError
from vit_edge.manifest import EMBEDDER_ROLES, MODEL_ROLES, Role
from vit_edge.runtime.job.answers import Answerer, Opening, rows_of
from vit_edge.runtime.job.names import Wanted, names_of
from vit_edge.runtime.job.parquet import PARQUET, ParquetFile, check_pyarrow
from vit_edge.runtime.job.record import Job
from vit_edge.runtime.job.results import ArrayFile, Results, RowFile
from vit_edge.runtime.job.rows import RowForm, Task
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.predict.embedder import outputs_by_kind, without_kind
from vit_edge.runtime.spread.task import Place, Spread
from vit_edge.spec import OutputKind

ARRAY_SUFFIX = ".npy"


Tell = Callable[[int, int, int], None]  # (rows of this run, rows that it is to make, errors in all)


@dataclasses.dataclass(frozen=True)
class Done:
    """What a run left behind."""

    images: int  # rows in all
    earlier: int  # of them, made by earlier runs
    failed: int  # of them, errors
    instead_of: str | None = None  # which file of the bundle another one ran for, and why


def model_of(file: str | None, embedder: bool) -> Role | None:
    """The role of a bundle's file that `float` or `int8` means; None leaves it to the bundle."""
    if file is None:
        return None
    if embedder:
        quantized, plain = EMBEDDER_ROLES
    else:
        plain, quantized = MODEL_ROLES[:2]
    return plain if file == "float" else quantized


def run_job(wanted: Wanted, opening: Opening, results: Path, spread: Spread, tell: Tell) -> Done:
    """Write one row per image that has none yet.

    Args:
        wanted: the images.
        opening: of the model.
        results: `.jsonl`, `.csv` or `.parquet`; `.npy` of an embedder.
        spread: over processes of this machine, or over an engine.
        tell: is called after every row.

    Raises:
        UsageError: the results are of another job, damaged, in use, or cannot be written.
        MissingExtraError: `.parquet` is asked for, and pyarrow is not installed.
        VitEdgeError: the images cannot be listed, the model cannot be opened, or a worker ended.
    """
    if results.suffix == PARQUET:
        check_pyarrow()
    if spread.engine is not None and opening.task is Task.SEGMENT:
        raise UsageError(
            f"--engine {spread.engine.value} writes masks where its workers are: leave it out, or take one "
            "--shard on each machine"
        )
    if opening.top < 1:
        raise UsageError(f"--top must be at least 1, got {opening.top}")
    file = opening.read()
    names = names_of(wanted, opening.limits)
    answerer = Answerer(opening)  # what cannot be opened is refused before anything is written
    place = Place.of(names, wanted.given)
    sink = _sink(results, file, opening, _job(file, opening, results, place.base, wanted))
    complete = False
    try:
        left = [name for name in names if name not in sink.done]
        earlier = len(sink.done)
        with contextlib.closing(rows_of(answerer, file.sha256, left, spread, place)) as rows:
            for count, row in enumerate(rows, 1):
                sink.append(row)
                tell(count, len(left), sink.failed)
        complete = True
    finally:
        sink.close(complete)
    return Done(len(sink.done), earlier, sink.failed, file.instead_of)


def _job(file: ModelFile, opening: Opening, results: Path, base: str | None, wanted: Wanted) -> Job:
    recipe = json.dumps(file.preprocess.to_json() if file.preprocess else None, sort_keys=True)
    settings = [f"decoding={opening.decoding.value}", f"output={file.output.value}"]
    settings += [f"preprocess={hashlib.sha256(recipe.encode()).hexdigest()[:16]}"]
    settings += [f"format={each.value}" for each in opening.limits.formats]
    own = {
        Task.CLASSIFY: [f"top={opening.top}", f"scores={file.scores}"],
        Task.EMBED: [f"kind={opening.kind}"],
    }
    looking = opening.looking
    settings += own.get(
        opening.task, [f"threshold={looking.threshold if looking else 0}", f"scores={file.scores}"]
    )
    return Job(
        command=opening.task.value,
        model=file.path.name,
        model_sha256=file.sha256,
        settings=tuple(settings),
        columns=_columns(file, opening, results) if opening.task is Task.CLASSIFY else 0,
        base=base,
        shard=wanted.shard,
    )


def _columns(file: ModelFile, opening: Opening, results: Path) -> int:
    """Answers in a row of CSV: of a regression all values, else as many as asked for and there are."""
    if file.output is OutputKind.REGRESSION:
        if file.answers is None and results.suffix == RowForm.CSV.value:
            raise UsageError(
                f"{file.path} does not say how many values it gives; write {RowForm.JSONL.value}"
            )
        return file.answers or 0
    return min(opening.top, file.answers or opening.top)


def _sink(results: Path, file: ModelFile, opening: Opening, job: Job) -> Results:
    if opening.kind is None and results.suffix == PARQUET:
        return ParquetFile(results, job)
    if opening.kind is None:
        return RowFile(results, RowForm(results.suffix), job)
    given = outputs_by_kind(file)
    if opening.kind not in given:
        raise UsageError(without_kind(file.path, opening.kind, tuple(given)))
    shape = file.outputs[given[opening.kind]]
    sides = tuple(side for side in shape if side is not None)
    return ArrayFile(results, sides, job)
