"""The deliverable: a folder that holds a model in its forms, what it needs to run, and the proof.

docs/bundle-format.md says what a writer and a reader must do, `vit_edge.manifest` what the manifest holds.

The hashes detect damage. They do not stop somebody who can rewrite the manifest too: that is what a signature
is for, `model.sig` in the folder, see `vit_edge.signing`. No listed file may have that name.
"""

import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from vit_edge import fields
from vit_edge.errors import BundleError, IntegrityError
from vit_edge.files import draft_beside, open_regular, put_in_place, read_descriptor, recover
from vit_edge.manifest import (
    EMBEDDER_ROLES,
    FORMAT_VERSION,
    MANIFEST,
    MODEL_ROLES,
    SIGNATURE,
    FileEntry,
    Manifest,
    Role,
    SourceRecord,
)
from vit_edge.spec import OutputKind

__all__ = [
    "EMBEDDER_ROLES",
    "FORMAT_VERSION",
    "MANIFEST",
    "MODEL_ROLES",
    "Bundle",
    "FileEntry",
    "Manifest",
    "Role",
    "SourceRecord",
    "check_replaceable",
    "is_bundle",
    "read_bundle",
    "read_manifest",
    "read_steadily",
    "verify_bundle",
    "write_bundle",
]

_MAX_MANIFEST = 16 * 2**20
_ATTEMPTS = 3  # to read a bundle that is being replaced

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest is read; a file is checked when it is read."""

    path: Path
    manifest: Manifest
    sha256: str  # of the manifest's own bytes

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, the very bytes whose SHA-256 was checked.

        Raises:
            BundleError: the file is not listed, missing, or a link.
            IntegrityError: its bytes are not those that the manifest records.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(
                f"{self.path}: {name!r} is not listed in {MANIFEST}; "
                f"listed models are {self.models() + self.embedders()}"
            )
        try:
            data = read_descriptor(_open_inside(self.path, name), entry.size)
        except OSError as error:
            if error.errno not in (errno.EFBIG, errno.EBUSY):
                raise BundleError(f"{self.path / name} cannot be read ({error.strerror})") from error
            data = b""  # it has grown
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise IntegrityError(
                f"{self.path / name} is not the file that {MANIFEST} records (SHA-256 differs); "
                "fetch the bundle again"
            )
        return data

    def models(self) -> list[str]:
        """The paths of all classifiers."""
        return [name for name, entry in self.manifest.files.items() if entry.role in MODEL_ROLES]

    def embedders(self) -> list[str]:
        """The paths of all embedders, first the one of the precision that the bundle runs by default."""
        runs_float = self.manifest.files[self.manifest.default_model].role is Role.FLOAT
        roles = reversed(EMBEDDER_ROLES) if runs_float else EMBEDDER_ROLES
        return [name for role in roles for name in self.with_role(role)]

    def embedding_role(self, role: Role) -> Role:
        """That of the file which embeds: of a bundle whose model gives embeddings itself, no embedder's.

        Args:
            role: EMBEDDER or EMBEDDER_FLOAT; any other stays as it is.
        """
        if self.manifest.output.task is not OutputKind.EMBEDDING:
            return role
        return {Role.EMBEDDER: Role.QUANTIZED, Role.EMBEDDER_FLOAT: Role.FLOAT}.get(role, role)

    def with_role(self, role: Role) -> list[str]:
        """The paths of all files of one role."""
        return [name for name, entry in self.manifest.files.items() if entry.role is role]


def is_bundle(path: Path) -> bool:
    """Whether a folder has a manifest."""
    return (path / MANIFEST).is_file()


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read the manifest of a bundle and see that its files are there.

    Raises:
        BundleError: no bundle, a malformed manifest, or a listed file that is missing or a link.
    """
    return read_steadily(path, _with_files)


def read_steadily(path: str | os.PathLike[str], read: Callable[[Bundle], T]) -> T:
    """What `read` makes of a bundle, all of it of one version should the bundle be replaced meanwhile.

    Raises:
        BundleError: as in `read_manifest`, or what `read` raises.
    """
    for _ in range(_ATTEMPTS):
        bundle = read_manifest(path)
        try:
            return read(bundle)
        except BundleError:
            if read_manifest(path).manifest == bundle.manifest:
                raise
    return read(read_manifest(path))


def _with_files(bundle: Bundle) -> Bundle:
    for name in bundle.manifest.files:
        os.close(_open_inside(bundle.path, name))
    return bundle


def read_manifest(path: str | os.PathLike[str]) -> Bundle:
    """Read the manifest of a bundle alone; for one who wants to know of every damaged file, not of the first.

    Raises:
        BundleError: no bundle, or a malformed manifest.
    """
    root = Path(path)
    if not root.is_dir() and not (recover(root) and root.is_dir()):
        raise BundleError(f"{root} is no folder; give the folder that holds {MANIFEST}")
    try:
        data = read_descriptor(_open_inside(root, MANIFEST), _MAX_MANIFEST)
        manifest = Manifest.from_json(fields.parse_json(data, "the manifest"))
    except OSError as error:
        raise BundleError(f"{root / MANIFEST} cannot be read ({error.strerror})") from error
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{root / MANIFEST}: {error}") from None
    return Bundle(root, manifest, hashlib.sha256(data).hexdigest())


def verify_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle and check the SHA-256 of every listed file.

    Raises:
        BundleError: as in `read_bundle`.
        IntegrityError: a file's bytes are not those that the manifest records.
    """
    return read_steadily(path, _verified)


def _verified(bundle: Bundle) -> Bundle:
    for name in _with_files(bundle).manifest.files:
        bundle.read(name)
    return bundle


def write_bundle(path: str | os.PathLike[str], files: Mapping[str, bytes], manifest: Manifest) -> Bundle:
    """Write a bundle, complete or not at all.

    The folder is made beside the target and then renamed. An existing target is replaced if it is an empty
    folder or a bundle with nothing else in it.

    Args:
        path: the folder to make.
        files: relative path -> content; the manifest itself is not among them.
        manifest: its `files` describes exactly `files`, see `FileEntry.of`.

    Raises:
        BundleError: the target holds something else, cannot be written, or the manifest does not fit.
    """
    target = Path(path)
    _check_described(files, manifest)
    try:
        text = json.dumps(manifest.to_json(), indent=1, allow_nan=False)
        Manifest.from_json(json.loads(text))
    except (ValueError, TypeError) as error:
        raise BundleError(f"the manifest of {target} cannot be written: {error}") from None
    check_replaceable(target)
    try:
        with draft_beside(target, folder=True) as draft:
            for name, data in {**files, MANIFEST: text.encode()}.items():
                _write_durably(draft / name, data)
            put_in_place(draft, target)
    except OSError as error:
        raise BundleError(f"{target} cannot be written ({error.strerror})") from error
    return Bundle(target, manifest, hashlib.sha256(text.encode()).hexdigest())


def _open_inside(root: Path, name: str) -> int:
    """Open a regular file that lies in the bundle itself: no link on the way, no second name."""
    path = root / name
    try:
        if path.resolve() != root.resolve() / name:
            raise BundleError(f"{path} is or lies behind a symbolic link; copy the files themselves (cp -rL)")
        descriptor = open_regular(path, getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        raise BundleError(f"{root} lacks {name}; fetch the bundle again") from None
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise BundleError(f"{path} has a hard link elsewhere; copy the files themselves (cp -r)")
    return descriptor


def _check_described(files: Mapping[str, bytes], manifest: Manifest) -> None:
    if set(files) != set(manifest.files):
        differing = sorted(set(files) ^ set(manifest.files))
        raise BundleError(f"the manifest and the files differ in {', '.join(differing)}")
    for name, data in files.items():
        if FileEntry.of(data, manifest.files[name].role) != manifest.files[name]:
            raise BundleError(f"the manifest records another size or SHA-256 for {name}")


def check_replaceable(target: Path) -> None:
    """Refuse to replace anything that we have not written; worth asking before long work.

    Raises:
        BundleError: the target is no folder, or holds something that is not of a bundle.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BundleError(f"{target} exists and is no folder; choose another output")
    if not target.exists() or not any(target.iterdir()):
        return
    if not is_bundle(target):
        raise BundleError(f"{target} exists, is not empty and is no bundle; choose another output")
    known = {*read_bundle(target).manifest.files, MANIFEST, SIGNATURE}
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        if not path.is_dir() and name not in known:
            raise BundleError(
                f"{path} does not belong to the bundle {target}; move it away or choose another output"
            )


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
