"""Signatures of bundles: who made it, and that nothing was changed, added or taken away since.

The format is that of OpenSSF Model Signing (https://github.com/ossf/model-signing-spec): an in-toto statement
that lists the SHA-256 of every file of the folder, signed by an elliptic curve key (ECDSA on P-256, P-384 or
P-521) in a DSSE envelope within a Sigstore bundle. Its own library makes and checks it; nothing here looks at
a network. The signature lies in the bundle as `model.sig`. The manifest does not list it, so no hash that the
bundle records changes when it is signed, and it does not cover itself.

A signed bundle holds what its manifest lists and nothing else; any other file is refused.
"""

import base64
import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vit_edge import fields
from vit_edge.bundle import Bundle, read_steadily, verify_bundle
from vit_edge.errors import BundleError, MissingExtraError, SignatureError, UsageError
from vit_edge.files import draft_beside, read_file, scratch_folder
from vit_edge.manifest import MANIFEST, SIGNATURE

_MOST_SIGNATURE = 2**20  # bytes; a bundle of 30 files takes 8,000
_MOST_KEY = 65_536
_MOST_ENTRIES = 10_000  # files and folders in a bundle
_KEYS = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"})
_ENVELOPE = frozenset({"payload", "payloadType", "signatures"})
_FETCH_AGAIN = "fetch the bundle again"

AnyPath = str | os.PathLike[str]


class _Library(NamedTuple):
    """The modules of model_signing."""

    hashing: Any
    signing: Any
    verifying: Any


@dataclasses.dataclass(frozen=True)
class Signed:
    """A bundle whose signature is good."""

    bundle: Bundle
    files: int  # covered by it, the manifest included


def sign_bundle(path: AnyPath, key: AnyPath, password: str | None = None) -> Signed:
    """Sign a bundle, in place of a signature that it may have.

    Args:
        path: the bundle's folder; every file is checked against the manifest first.
        key: a file in PEM form with a private key on P-256, P-384 or P-521.
        password: of the key, where it is encrypted.

    Raises:
        BundleError: a malformed bundle, one with a file that its manifest does not list, or one that cannot
            be written to (IntegrityError: a file is not the recorded one).
        UsageError: no such key, or a wrong password.
        MissingExtraError: the library is not installed.
    """
    library = _library()
    bundle = verify_bundle(path)
    _check_contents(bundle)
    _check_key(key)
    try:
        signer = library.signing.Config().use_elliptic_key_signer(
            private_key=key,
            password=None if password is None else password.encode(),
        )
    except Exception as error:  # the library lets through what cryptography raises
        raise UsageError(
            f"{os.fspath(key)} is no private key that can sign ({_said(error)}); make one with: "
            "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
        ) from None
    with scratch_folder() as scratch:
        made = scratch / SIGNATURE
        signer.set_hashing_config(_hashing(library)).sign(bundle.path.resolve(), made)
        data = read_file(made, _MOST_SIGNATURE)
    if _signed_digests(bundle, data).get(MANIFEST) != bundle.sha256:
        raise BundleError(f"{bundle.path} was replaced while it was signed; sign it again")
    target = bundle.path / SIGNATURE
    try:
        with draft_beside(target) as draft:
            draft.write_bytes(data)
            draft.replace(target)
    except OSError as error:
        raise BundleError(f"{target} cannot be written ({error.strerror})") from error
    return Signed(bundle, len(bundle.manifest.files) + 1)


def verify_signature(path: AnyPath, key: AnyPath) -> Signed:
    """Read a bundle and see that it is, to the last file, what the owner of a key has signed.

    Args:
        path: the bundle's folder.
        key: a file in PEM form with the public key.

    Raises:
        SignatureError: no signature, one by another key, or a file that was changed, added or removed since.
        BundleError: a malformed bundle.
        UsageError: no such key.
        MissingExtraError: the library is not installed.
    """
    _check_key(key)
    return read_steadily(path, lambda bundle: check_signature(bundle, key))


def check_signature(bundle: Bundle, key: AnyPath) -> Signed:
    """`verify_signature` of a bundle whose manifest has been read: it is that very manifest that was signed.

    Every file that is read through it later is checked against the manifest, and so is what was signed.
    """
    library = _library()
    _check_key(key)
    data = _read_signature(bundle)
    digests = _signed_digests(bundle, data)
    # What bounds the work comes first, and counts for nothing until the signature itself is checked.
    if digests.get(MANIFEST) != bundle.sha256:
        raise SignatureError(f"{bundle.path / MANIFEST} is not the file that was signed; {_FETCH_AGAIN}")
    _check_contents(bundle)
    try:
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # the library lets through what cryptography raises
        raise UsageError(
            f"{os.fspath(key)} is no public key that can verify ({_said(error)}); make one with: "
            "openssl ec -in key.pem -pubout -out key.pub"
        ) from None
    with scratch_folder() as scratch:
        checked = scratch / SIGNATURE
        checked.write_bytes(data)
        try:
            verifier.set_hashing_config(_hashing(library)).verify(bundle.path.resolve(), checked)
        except Exception as error:  # as above
            _name_changed(bundle)
            raise SignatureError(
                f"{bundle.path / SIGNATURE} does not verify with {os.fspath(key)} "
                f"({_said(error) or 'signed by another key, or changed'}); do not use the bundle"
            ) from None
    return Signed(bundle, len(digests))


def _library() -> _Library:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise MissingExtraError((error.name or "model_signing").split(".")[0], "sign") from error
    return _Library(hashing, signing, verifying)


def _hashing(library: _Library) -> Any:
    """Every file but the signature; the library would leave out those of git, too."""
    return library.hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _check_key(key: AnyPath) -> None:
    """Only a regular file is opened, here and so by the library."""
    try:
        read_file(key, _MOST_KEY)
    except OSError as error:
        raise UsageError(f"{os.fspath(key)} cannot be read as a key ({error.strerror})") from None


def _read_signature(bundle: Bundle) -> bytes:
    path = bundle.path / SIGNATURE
    try:
        if path.is_symlink():
            raise SignatureError(f"{path} is a symbolic link; copy the file itself (cp -rL)")
        return read_file(path, _MOST_SIGNATURE)
    except FileNotFoundError:
        raise SignatureError(
            f"{bundle.path} is not signed, {SIGNATURE} is missing; sign it with: vit-edge sign"
        ) from None
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror})") from None


def _signed_digests(bundle: Bundle, data: bytes) -> dict[str, str]:
    """Path -> SHA-256 of every file in a signature, which is not checked yet.

    Raises:
        SignatureError: it is none, or of a form that `sign_bundle` does not write.
    """
    try:
        # No more keys than these, of which the library might take one for another.
        whole = fields.exact_keys(fields.parse_json(data, "it"), _KEYS, "it")
        envelope = fields.exact_keys(whole["dsseEnvelope"], _ENVELOPE, "dsseEnvelope")
        material = fields.mapping(whole["verificationMaterial"], "verificationMaterial")
        fields.string(fields.mapping(material.get("publicKey"), "publicKey").get("hint"), "hint")
        payload = base64.b64decode(fields.string(envelope["payload"], "payload"), validate=True)
        statement = fields.mapping(fields.parse_json(payload, "the payload"), "the payload")
        predicate = fields.mapping(statement.get("predicate"), "predicate")
        method = fields.mapping(predicate.get("serialization"), "serialization").get("method")
        if method != "files":
            raise ValueError(f"it is signed by {fields.shown(method)}, not by files")
        digests = {}
        for each in fields.sequence(predicate.get("resources"), "resources"):
            resource = fields.mapping(each, "each of resources")
            fields.choice(resource.get("algorithm"), "algorithm", ("sha256",))
            name = fields.string(resource.get("name"), "name")
            digests[name] = fields.sha256(resource.get("digest"), "digest")
    except ValueError as error:
        raise SignatureError(
            f"{bundle.path / SIGNATURE} is no signature of a bundle ({error}); sign it with: vit-edge sign"
        ) from None
    return digests


def _check_contents(bundle: Bundle) -> None:
    """Refuse what a signature does not cover: links, what is no file, and files that nobody has listed.

    Only names and sizes are looked at, so this takes no time whatever lies there.
    """
    sizes = {name: entry.size for name, entry in bundle.manifest.files.items()}
    found = set[str]()
    try:
        for path, status in _entries(bundle.path):
            name = path.relative_to(bundle.path).as_posix()
            found.add(name)
            if name in (MANIFEST, SIGNATURE):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise SignatureError(f"{path} is a link or no regular file, which no signature covers")
            if name not in sizes:
                raise SignatureError(f"{path} was added: {MANIFEST} does not list it; remove it")
            if status.st_size != sizes[name]:
                raise SignatureError(f"{path} was changed, its size is not the recorded one; {_FETCH_AGAIN}")
    except OSError as error:
        raise BundleError(f"{bundle.path} cannot be read ({error.strerror})") from error
    missing = sorted(set(sizes) - found)
    if missing:
        raise SignatureError(f"{bundle.path / missing[0]} is missing; {_FETCH_AGAIN}")


def _entries(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder but folders; links are given, not followed.

    Raises:
        SignatureError: there is no end to it.
    """
    pending, seen = [root], 0
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_ENTRIES:
                    raise SignatureError(f"{root} is no bundle, it holds more than {_MOST_ENTRIES} files")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    yield Path(entry.path), entry.stat(follow_symlinks=False)


def _name_changed(bundle: Bundle) -> None:
    """Raise for the first file that is not as the manifest records it, if there is one.

    The library names it, too, among the digests of all.
    """
    for name in bundle.manifest.files:
        try:
            bundle.read(name)
        except BundleError as error:
            raise SignatureError(str(error)) from None


def _said(error: Exception) -> str:
    """The first sentence of what a library says."""
    with contextlib.suppress(IndexError):
        return str(error).strip().splitlines()[0].split(". ")[0].rstrip(".")
    return ""
