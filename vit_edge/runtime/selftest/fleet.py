"""The self-tests of many devices, read together: what runs where, how fast, and what fails."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from vit_edge import fields, plain
from vit_edge.errors import UsageError
from vit_edge.files import read_file
from vit_edge.runtime.selftest.check import Report
from vit_edge.spec import Arithmetic

MOST_BYTES = 2**20  # of one report
_ENDING = ".json"


@dataclasses.dataclass(frozen=True)
class Device:
    """One report that could be read."""

    name: str
    """Of the file, without its ending; with its folder where two would have one name."""
    report: Report


@dataclasses.dataclass(frozen=True)
class Unread:
    """One file that is no report."""

    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Failure:
    """One check that failed on one device."""

    device: str
    check: str
    found: str
    mend: str | None


@dataclasses.dataclass(frozen=True)
class Group:
    """Devices of one kind that tested one bundle."""

    bundle: str
    manifest_sha256: str | None
    cpu: str
    flags: tuple[str, ...]
    system: str
    onnxruntime: str
    arithmetic: Arithmetic | None
    provider: str | None
    """Of the model that runs by default; None: it was not timed."""
    devices: tuple[str, ...]
    passed: int
    min_ms: tuple[float, float] | None
    """The least and the most over the devices of what each did at best; None: none was timed."""


@dataclasses.dataclass(frozen=True)
class Fleet:
    """All that was read, in groups."""

    reports: int
    passed: int
    copies: int
    """Files that say byte for byte what another says; they count once."""
    groups: tuple[Group, ...]
    failures: tuple[Failure, ...]
    unread: tuple[Unread, ...]


def read_fleet(paths: Sequence[Path]) -> Fleet:
    """Read what `vit-edge selftest --json` wrote on many devices.

    Args:
        paths: files, and folders whose files that end in .json are meant, also in folders below.

    Returns:
        What can be read; a file that is no report is named with the reason.

    Raises:
        UsageError: a path that is not there, a folder that cannot be listed, or no file at all.
    """
    files = sorted(set(itertools.chain.from_iterable(map(_files, paths))))
    if not files:
        raise UsageError(f"{paths[0]} holds no file that ends in {_ENDING}")
    names = _names(files)
    devices: list[Device] = []
    unread: list[Unread] = []
    seen: set[bytes] = set()
    for path in files:
        try:
            data = read_file(path, MOST_BYTES)
            report = _report(data)
        except OSError as error:
            unread.append(Unread(str(path), f"it cannot be read ({error.strerror})"))
        except ValueError as error:
            unread.append(Unread(str(path), str(error)))
        else:
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                devices.append(Device(names[path], report))
            seen.add(digest)
    return Fleet(
        len(devices),
        sum(device.report.passed for device in devices),
        len(files) - len(unread) - len(devices),
        _groups(devices),
        tuple(itertools.chain.from_iterable(map(_failures, devices))),
        tuple(unread),
    )


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise UsageError(f"{path} is not there")
    if not path.is_dir():
        yield path
        return
    try:
        for each in sorted(path.iterdir()):
            if each.name.startswith("."):
                continue
            if each.is_dir() and not each.is_symlink():
                yield from _files(each)
            elif each.suffix == _ENDING:
                yield each
    except OSError as error:
        raise UsageError(f"{path} cannot be listed ({error.strerror})") from None


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """What each is called: as short as tells it from the others."""
    stems = [path.stem for path in files]
    return {
        path: path.stem if stems.count(path.stem) == 1 else path.with_suffix("").as_posix() for path in files
    }


def _report(data: bytes) -> Report:
    """What a file says; its own word for whether it passed must agree with its checks."""
    report = plain.read(Report, fields.parse_json(data, "the report"), "the report", "", further=True)
    if report.passed is any(check.passed is False for check in report.checks):
        raise ValueError("the report contradicts itself: `passed` is not what its checks say")
    return report


def _failures(device: Device) -> Iterator[Failure]:
    for check in device.report.checks:
        if check.passed is False:
            yield Failure(device.name, check.name, check.found, check.mend)


def _groups(devices: Sequence[Device]) -> tuple[Group, ...]:
    ordered = sorted(devices, key=_kind)
    return tuple(_group([*members]) for _, members in itertools.groupby(ordered, _kind))


def _kind(device: Device) -> tuple[str, ...]:
    report, machine = device.report, device.report.machine
    provider = "" if report.measured is None else report.measured.provider
    arithmetic = "" if report.arithmetic is None else report.arithmetic.value
    bundle = (report.bundle, report.manifest_sha256 or "")
    return (*bundle, machine.cpu, *machine.flags, machine.system, machine.onnxruntime, arithmetic, provider)


def _group(members: Sequence[Device]) -> Group:
    report, machine = members[0].report, members[0].report.machine
    times = [each.report.measured.min_ms for each in members if each.report.measured is not None]
    return Group(
        report.bundle,
        report.manifest_sha256,
        machine.cpu,
        machine.flags,
        machine.system,
        machine.onnxruntime,
        report.arithmetic,
        None if report.measured is None else report.measured.provider,
        tuple(each.name for each in members),
        sum(each.report.passed for each in members),
        (min(times), max(times)) if times else None,
    )
