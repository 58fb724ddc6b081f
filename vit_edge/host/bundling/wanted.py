"""The INT8 files that a build writes, and the one that is to run by default."""

from collections.abc import Sequence

from vit_edge.bundle import Role
from vit_edge.host.bundling.settings import QUANTIZED_MODEL
from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.convert.for_target import PORTABLE_TARGET, at_versions, check_target
from vit_edge.manifest import lowered_name
from vit_edge.spec import TargetSpec, VersionsWanted
from vit_edge.targets import load_target


def settled(targets: Sequence[TargetSpec], versions: VersionsWanted) -> tuple[TargetSpec, ...]:
    """The targets with files of the versions that were asked for.

    Raises:
        TargetError: as in `check_target`.
    """
    found = tuple(at_versions(target, versions) for target in targets)
    for target in found:
        check_target(target)
    return found


def wanted_files(targets: Sequence[TargetSpec], versions: VersionsWanted) -> tuple[FileWanted, ...]:
    """The INT8 files to write: the portable one, and one for each target that asks for another form."""
    portable = at_versions(load_target(PORTABLE_TARGET), versions)
    own = [
        FileWanted(lowered_name(target.name), Role.LOWERED, target)
        for target in targets
        if target.file != portable.file
    ]
    return FileWanted(QUANTIZED_MODEL, Role.QUANTIZED, portable), *own


def preferred_file(targets: Sequence[TargetSpec], wanted: Sequence[FileWanted]) -> FileWanted:
    """That of the first target, or the portable one where that has none of its own."""
    own = [each for each in wanted if targets and each.target.name == targets[0].name]
    return own[0] if own else wanted[0]
