"""The results of several shards as one file."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from vit_edge.errors import UsageError
from vit_edge.files import draft_beside
from vit_edge.runtime.job.names import WHOLE
from vit_edge.runtime.job.parquet import PARQUET, check_pyarrow, convert, lines_of
from vit_edge.runtime.job.record import Job, read_job, record_of, write_job
from vit_edge.runtime.job.results import write_all, writing
from vit_edge.runtime.job.rows import Read, RowForm, Task, header, read_rows


@dataclasses.dataclass(frozen=True)
class Merged:
    """What was merged."""

    images: int
    failed: int
    twice: int  # rows that stood in more than one part, alike, and are kept once


def merge_results(parts: Sequence[Path], target: Path) -> Merged:
    """Write the rows of finished parts of one job, in the order of the parts, each image once.

    Args:
        parts: `.jsonl`, `.csv` or `.parquet`, of which the lines beside it are read.
        target: complete or not at all; `.csv` where the parts are, else one of the others.

    Raises:
        UsageError: parts of different jobs, an unfinished or a missing one, an image with two different rows,
            a damaged file, or a target that cannot be written.
        MissingExtraError: the target is `.parquet`, and pyarrow is not installed.
    """
    if target in parts:
        raise UsageError(f"{target} is one of the parts; choose another output")
    parts = [lines_of(part) for part in parts]
    if target.suffix == PARQUET:
        check_pyarrow()
        found = merge_results(parts, lines_of(target))
        job = read_job(lines_of(target))
        assert job is not None  # noqa: S101  it was written just now
        convert(lines_of(target), target, Task(job.command))
        return found
    form = form_of(target)
    jobs = [_job_of(part, form) for part in parts]
    for part, job in zip(parts[1:], jobs[1:], strict=True):
        reason = job.same_answers(jobs[0])
        if reason is not None:
            raise UsageError(f"{part} is of another job than {parts[0]} ({reason})")
    _check_shards(jobs)
    _check_masks(jobs[0], parts, target)
    merged = dataclasses.replace(jobs[0], shard=WHOLE, base=_common([job.base for job in jobs]))
    with (
        writing(target, "nothing is left of it and the parts are as they were"),
        draft_beside(target) as draft,
    ):
        found = _joined(parts, jobs, form, draft)
        draft.replace(target)
    write_job(target, dataclasses.replace(merged, rows=found.images))
    return found


def form_of(path: Path) -> RowForm:
    """The form that a name ends in.

    Raises:
        UsageError: none that rows have.
    """
    try:
        return RowForm(path.suffix)
    except ValueError:
        known = " or ".join([*(form.value for form in RowForm), PARQUET])
        raise UsageError(f"{path} is no file of results; its name must end in {known}") from None


def _job_of(part: Path, form: RowForm) -> Job:
    if form_of(part) is not form:
        raise UsageError(f"{part} cannot become {form.value}; give the output the ending {part.suffix}")
    job = read_job(part)
    if job is None:
        raise UsageError(f"{part} has no {record_of(part).name} beside it that says what it is of")
    if job.rows is None:
        raise UsageError(f"{part} is not finished; run its command again to go on, then merge")
    return job


def _check_shards(jobs: Sequence[Job]) -> None:
    counts = {job.shard.count for job in jobs}
    for count in counts:
        given = {job.shard.index for job in jobs if job.shard.count == count}
        missing = sorted(set(range(1, count + 1)) - given) if len(given) < count else []
        if missing:
            raise UsageError(
                f"shard {missing[0]}/{count} is missing ({len(missing)} in all); give every part"
            )


def _check_masks(job: Job, parts: Sequence[Path], target: Path) -> None:
    """Refuse to part rows from the masks that they name."""
    elsewhere = [part for part in parts if part.parent.resolve() != target.parent.resolve()]
    if job.layout.task is Task.SEGMENT and elsewhere:
        raise UsageError(
            f"{elsewhere[0]} names its masks from its own folder; write the merged file into that folder"
        )


def _joined(parts: Sequence[Path], jobs: Sequence[Job], form: RowForm, draft: Path) -> Merged:
    seen: dict[str, bytes] = {}
    failed = read = 0
    with draft.open("r+b") as out:
        write_all(out, header(form, jobs[0].layout))
        for part, job in zip(parts, jobs, strict=True):
            count = 0
            for count, row in enumerate(_rows(part, job, form), 1):  # noqa: B007  counted to the last
                digest = hashlib.blake2b(row.raw, digest_size=16).digest()
                read += 1
                if row.image not in seen:
                    seen[row.image] = digest
                    failed += row.failed
                    write_all(out, row.raw)
                elif seen[row.image] != digest:
                    raise UsageError(f"{part} has another row of {row.image} than a part before it")
            if count != job.rows:
                raise UsageError(
                    f"{part} has {count} rows, but {job.rows} when it was finished; run its command again"
                )
    return Merged(len(seen), failed, read - len(seen))


def _rows(part: Path, job: Job, form: RowForm) -> Iterator[Read]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(part.open("rb"))
        except OSError as error:
            raise UsageError(f"{part} cannot be read ({error.strerror})") from None
        yield from read_rows(file, form, job.layout, str(part))


def _common(bases: Sequence[str | None]) -> str | None:
    return bases[0] if len(set(bases)) == 1 else None
