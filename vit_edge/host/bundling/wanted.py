"""The INT8 files that a build writes, and the one that is to run by default."""

from collections.abc import Sequence

from vit_edge.bundle import Role
from vit_edge.errors import TargetError, UsageError
from vit_edge.host.bundling.settings import QUANTIZED_MODEL, BuildSettings
from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.convert.for_target import PORTABLE_TARGET, at_versions, check_target
from vit_edge.host.convert.int8 import check_grid_kept, check_merges_in_float
from vit_edge.manifest import Repair, lowered_name
from vit_edge.runtime.model.own_kernels import NotHere, check_kernels
from vit_edge.spec import GraphStyle, TargetSpec, VersionsWanted
from vit_edge.targets import load_target


def settled(targets: Sequence[TargetSpec], versions: VersionsWanted) -> tuple[TargetSpec, ...]:
    """The targets with files of the versions that were asked for.

    Raises:
        TargetError: as in `check_target`, or files of operators that cannot be judged on this machine.
    """
    found = tuple(at_versions(target, versions) for target in targets)
    for target in found:
        check_target(target)
        _check_runs(target)
    return found


def _check_runs(target: TargetSpec) -> None:
    """Every file of a bundle is judged, so what cannot run here is refused before any work."""
    if target.form.style is GraphStyle.NATIVE:
        try:
            check_kernels()
        except NotHere as error:
            raise TargetError(f"target {target.name} {error}") from None


def check_merging(settings: BuildSettings) -> None:
    """Refuse to merge tokens beside what does not go with it.

    Raises:
        UsageError: an embedder, or a first result that is kept whatever comes of it.
        TargetError: a target that computes every operator in integers.
    """
    if not settings.merge_tokens:
        return
    if settings.embedder:
        check_grid_kept(settings.merge_tokens, "--embedder")
    if settings.repair is Repair.NEVER:
        raise UsageError(
            "--merge-tokens is taken where it passes and is faster, and --repair never keeps what comes "
            "first: leave one out"
        )
    for target in settings.targets:
        check_merges_in_float(target, settings.merge_tokens)


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
