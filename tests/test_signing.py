"""A bundle runs under a key only if it is, to the last file, what the owner of that key has signed."""

import base64
import contextlib
import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import vit_edge
from vit_edge import Classifier, Embedder, SignatureError, read_model, selftest
from vit_edge.bundle import MANIFEST, FileEntry, Manifest, Role, SourceRecord, verify_bundle, write_bundle
from vit_edge.cli import main
from vit_edge.errors import BundleError, IntegrityError, MissingExtraError, ModelError, UsageError
from vit_edge.manifest import SIGNATURE
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.signing import sign_bundle, verify_signature
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

pytest.importorskip("model_signing", reason="signatures need the extra: pip install 'vit-edge[sign]'")
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

SPEC = PreprocessSpec(
    8, 8, ResizeMode.SHORT_SIDE, (10, 10), Interpolation.BICUBIC, (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
)
ROLES = {
    "onnx/model.onnx": Role.FLOAT,
    "onnx/model_quantized.onnx": Role.QUANTIZED,
    "onnx/embedder.onnx": Role.EMBEDDER_FLOAT,
    "config.json": Role.CONFIG,
}
MODEL = "onnx/model.onnx"
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may ask anybody."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def bundle(tmp_path: Path, data: Path) -> Path:
    """An unsigned one."""
    embedder = (data / "embedder.onnx").read_bytes()
    contents = [(data / "dynamic.onnx").read_bytes(), (data / "pixels.onnx").read_bytes(), embedder, b"{}"]
    files = dict(zip(ROLES, contents, strict=True))
    manifest = Manifest(
        files={name: FileEntry.of(content, ROLES[name]) for name, content in files.items()},
        default_model=MODEL,
        preprocess=SPEC,
        source=SourceRecord("example", "0" * 64),
        tools={},
    )
    return write_bundle(tmp_path / "bundle", files, manifest).path


class Keys:
    """A pair of key files."""

    def __init__(self, folder: Path, curve: ec.EllipticCurve | None = None, password: bytes = b"") -> None:
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(curve or ec.SECP256R1())
        self.private, self.public = folder / "key.pem", folder / "key.pub"
        closed = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
        self.private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, closed))
        form = pem.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, form))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


@pytest.fixture
def signed(bundle: Path, keys: Keys) -> Path:
    sign_bundle(bundle, keys.private)
    return bundle


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_what_was_signed_verifies_with_the_other_half_of_the_key(
    bundle: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    pair = Keys(tmp_path / "pair", curve)
    assert sign_bundle(bundle, pair.private).files == 5
    found = verify_signature(bundle, pair.public)
    assert found.files == 5, "four files and the manifest"
    assert found.bundle.path == bundle


def test_a_signature_changes_nothing_of_what_the_bundle_records(bundle: Path, keys: Keys) -> None:
    before = verify_bundle(bundle)
    sign_bundle(bundle, keys.private)
    assert verify_bundle(bundle) == before
    assert SIGNATURE not in before.manifest.files


def official_tool(command: str, bundle: Path, key: str) -> None:
    tool = [sys.executable, "-m", "model_signing", command, "key", f"--signature={bundle / SIGNATURE}"]
    subprocess.run([*tool, key, str(bundle)], check=True, capture_output=True)


def test_the_tool_of_the_format_itself_verifies_it(signed: Path, keys: Keys) -> None:
    official_tool("verify", signed, f"--public_key={keys.public}")


def test_what_the_tool_of_the_format_has_signed_is_taken(bundle: Path, keys: Keys) -> None:
    official_tool("sign", bundle, f"--private_key={keys.private}")
    assert verify_signature(bundle, keys.public).files == 5


def test_models_run_under_the_right_key_and_answer_as_without(signed: Path, keys: Keys) -> None:
    assert Classifier(signed, trust=keys.public)(picture()) == Classifier(signed)(picture())
    assert Embedder(signed, trust=str(keys.public)).dim == Embedder(signed).dim
    assert read_model(signed, trust=keys.public).sha256 == read_model(signed).sha256


def test_a_pickled_classifier_verifies_again(signed: Path, keys: Keys, tmp_path: Path) -> None:
    for kind in (Classifier, Embedder):
        kept = pickle.dumps(kind(signed, trust=keys.public))
        pickle.loads(kept)  # noqa: S301  our own
        (signed / "added").touch()
        with pytest.raises(SignatureError, match="added"):
            pickle.loads(kept)  # noqa: S301
        (signed / "added").unlink()
    assert tmp_path in signed.parents


def test_another_key_is_refused(signed: Path, keys: Keys, tmp_path: Path) -> None:
    other = Keys(tmp_path / "other")
    for use in (verify_signature, lambda path, key: Classifier(path, trust=key)):
        with pytest.raises(SignatureError, match=r"model.sig does not verify with .*key.pub"):
            use(signed, other.public)
    forged = json.loads((signed / SIGNATURE).read_text())
    sign_bundle(signed, other.private)
    theirs = json.loads((signed / SIGNATURE).read_text())
    hint = forged["verificationMaterial"]["publicKey"]["hint"]
    theirs["verificationMaterial"]["publicKey"]["hint"] = hint  # as if it were by the right key
    (signed / SIGNATURE).write_text(json.dumps(theirs))
    with pytest.raises(SignatureError, match="does not verify with"):
        verify_signature(signed, keys.public)


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(bundle: Path) -> None:
    """A changed model, and a manifest that records it."""
    wrong = (bundle / MODEL).read_bytes().replace(b"logits", b"logitz")
    (bundle / MODEL).write_bytes(wrong)
    manifest = json.loads((bundle / MANIFEST).read_text())
    entry = FileEntry.of(wrong, Role.FLOAT)
    manifest["files"][MODEL] = {"sha256": entry.sha256, "size": entry.size, "role": "float"}
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def into_git(bundle: Path) -> None:
    (bundle / ".git").mkdir()
    (bundle / ".git" / "config").touch()


def link(bundle: Path, name: str = "config.json") -> None:
    (bundle / name).rename(bundle.parent / "elsewhere")
    (bundle / name).symlink_to(bundle.parent / "elsewhere")


def pipe(bundle: Path) -> None:
    (bundle / SIGNATURE).unlink()
    os.mkfifo(bundle / SIGNATURE)


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (lambda b: change(b / MODEL), "onnx/model.onnx is not the file that"),
    "a byte more": (
        lambda b: (b / MODEL).write_bytes((b / MODEL).read_bytes() + b"x"),
        "onnx/model.onnx was changed",
    ),
    "a changed model with a manifest that fits": (rewrite, "vit_edge.json is not the file that was signed"),
    "a changed card": (lambda b: (b / "config.json").write_text("[]"), "config.json is not the file"),
    "an added file": (lambda b: (b / "onnx" / "new.onnx").touch(), "onnx/new.onnx was added"),
    "an added file that git would own": (into_git, r"\.git/config was added"),
    "an added link": (lambda b: (b / "new").symlink_to("/etc"), "new is a link"),
    "an added pipe": (lambda b: os.mkfifo(b / "new"), "new is a link or no regular file"),
    "a missing file": (lambda b: (b / "config.json").unlink(), "config.json"),
    "a link in place of a file": (link, "config.json"),
    "no signature": (lambda b: (b / SIGNATURE).unlink(), "is not signed, model.sig is missing"),
    "an empty signature": (lambda b: (b / SIGNATURE).write_bytes(b""), "model.sig is no signature"),
    "a signature that is none": (lambda b: (b / SIGNATURE).write_text("{}"), "model.sig is no signature"),
    "a signature of a million parts": (
        lambda b: (b / SIGNATURE).write_text("[" + "[]," * 300_000 + "[]]"),
        "model.sig is no signature",
    ),
    "a signature of megabytes": (
        lambda b: (b / SIGNATURE).write_bytes(bytes(2**20 + 1)),
        "model.sig cannot be read .it is larger than",
    ),
    "a link to a signature": (lambda b: link(b, SIGNATURE), "model.sig is a symbolic link"),
    "a pipe for a signature": (pipe, "model.sig cannot be read .it is no regular file"),
}


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are those of POSIX")
@pytest.mark.parametrize(("tamper", "named"), TAMPERING.values(), ids=TAMPERING)
def test_whatever_is_not_as_it_was_signed_is_refused_in_one_line(
    signed: Path, keys: Keys, tamper: Callable[[Path], object], named: str, capsys: Output
) -> None:
    tamper(signed)
    with pytest.raises(BundleError, match=named):
        verify_signature(signed, keys.public)
    with pytest.raises(BundleError, match=named):
        Classifier(signed, trust=keys.public)
    assert main(["verify", str(signed), "--key", str(keys.public)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1


def altered(path: Path, alter: Callable[[dict[str, Any]], None]) -> None:
    signature = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(signature["dsseEnvelope"]["payload"]))
    alter(statement)
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    signature["dsseEnvelope"]["payload"] = payload
    path.write_text(json.dumps(signature))


def test_a_statement_that_was_made_to_fit_is_refused(signed: Path, keys: Keys) -> None:
    rewrite(signed)
    digest = FileEntry.of((signed / MANIFEST).read_bytes(), Role.CONFIG).sha256

    def fit(statement: dict[str, Any]) -> None:
        for each in statement["predicate"]["resources"]:
            if each["name"] == MANIFEST:
                each["digest"] = digest

    altered(signed / SIGNATURE, fit)
    with pytest.raises(SignatureError, match=r"model\.sig does not verify"):
        verify_signature(signed, keys.public)


@pytest.mark.parametrize("where", [("dsse_envelope",), ("dsseEnvelope", "more")])
def test_a_signature_with_more_in_it_than_the_format_has_is_refused(
    signed: Path, keys: Keys, where: tuple[str, ...]
) -> None:
    signature = json.loads((signed / SIGNATURE).read_text())
    place = signature if len(where) == 1 else signature[where[0]]
    place[where[-1]] = {}
    (signed / SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(SignatureError, match=f"unknown key '{where[-1]}'"):
        verify_signature(signed, keys.public)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
STEPS = st.sampled_from(
    [
        ("mediaType",),
        ("verificationMaterial",),
        ("verificationMaterial", "publicKey"),
        ("verificationMaterial", "publicKey", "hint"),
        ("verificationMaterial", "tlogEntries"),
        ("dsseEnvelope",),
        ("dsseEnvelope", "payload"),
        ("dsseEnvelope", "payloadType"),
        ("dsseEnvelope", "signatures"),
    ]
)


@given(STEPS, json_values)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_place_of_a_part_of_a_signature_is_refused(
    signed: Path, keys: Keys, steps: tuple[str, ...], value: object
) -> None:
    path = signed / SIGNATURE
    good = path.read_bytes()
    signature = json.loads(good)
    place = signature
    for step in steps[:-1]:
        place = place[step]
    unchanged = place[steps[-1]] == value
    place[steps[-1]] = value
    path.write_text(json.dumps(signature))
    try:
        if unchanged or steps[-1] == "tlogEntries":  # of which the format asks nothing for a key
            with contextlib.suppress(SignatureError):
                verify_signature(signed, keys.public)
            return
        with pytest.raises(SignatureError) as caught:
            verify_signature(signed, keys.public)
        assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(good)


@given(st.binary(max_size=200))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_place_of_a_signature_are_refused(signed: Path, keys: Keys, data: bytes) -> None:
    (signed / SIGNATURE).write_bytes(data)
    with pytest.raises(SignatureError, match="is no signature of a bundle"):
        verify_signature(signed, keys.public)


def test_signing_again_replaces_the_signature(signed: Path, tmp_path: Path) -> None:
    other = Keys(tmp_path / "other")
    sign_bundle(signed, other.private)
    verify_signature(signed, other.public)
    assert [path.name for path in signed.iterdir() if path.is_file()].count(SIGNATURE) == 1


def test_a_signed_bundle_can_be_replaced_and_is_then_unsigned(signed: Path, keys: Keys) -> None:
    bundle = verify_bundle(signed)
    write_bundle(signed, {name: bundle.read(name) for name in bundle.manifest.files}, bundle.manifest)
    with pytest.raises(SignatureError, match="is not signed"):
        verify_signature(signed, keys.public)


def test_a_bundle_behind_a_link_verifies(signed: Path, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(signed)
    assert verify_signature(tmp_path / "current", keys.public).files == 5


@pytest.mark.parametrize(
    ("spoil", "error", "named"),
    [
        (lambda b: (b / "notes.txt").touch(), SignatureError, "notes.txt was added"),
        (lambda b: change(b / MODEL), IntegrityError, "model.onnx"),
        (lambda b: (b / MODEL).unlink(), BundleError, "model.onnx"),
        (lambda b: (b / MANIFEST).unlink(), BundleError, "vit_edge.json"),
        (shutil.rmtree, BundleError, "bundle"),
    ],
    ids=["a file that is not listed", "a damaged file", "a missing file", "no bundle", "nothing"],
)
def test_only_a_whole_bundle_is_signed(
    bundle: Path, keys: Keys, spoil: Callable[[Path], object], error: type[Exception], named: str
) -> None:
    spoil(bundle)
    with pytest.raises(error, match=named):
        sign_bundle(bundle, keys.private)
    assert not (bundle / SIGNATURE).exists()


def test_an_encrypted_key_needs_its_password(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    pair = Keys(tmp_path / "closed", password=b"word")
    words = ["sign", str(bundle), "--key", str(pair.private)]
    for password in (None, "", "wrong"):
        monkeypatch.delenv("VIT_EDGE_KEY_PASSWORD", raising=False)
        if password is not None:
            monkeypatch.setenv("VIT_EDGE_KEY_PASSWORD", password)
        assert main(words) == 2
        assert "is no private key that can sign" in capsys.readouterr().err
    monkeypatch.setenv("VIT_EDGE_KEY_PASSWORD", "word")
    assert main(words) == 0
    assert main(["verify", str(bundle), "--key", str(pair.public)]) == 0


def other_kind(folder: Path) -> Path:
    key = ed25519.Ed25519PrivateKey.generate()
    data = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    (folder / "edwards.pem").write_bytes(data)
    return folder / "edwards.pem"


def made(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    make(folder / name)
    return folder / name


BAD_KEYS: dict[str, Callable[[Path], Path]] = {
    "missing": lambda folder: folder / "nothing.pem",
    "a folder": lambda folder: folder,
    "a pipe": lambda folder: made(folder, "pipe", os.mkfifo),
    "empty": lambda folder: made(folder, "empty", Path.touch),
    "text": lambda folder: made(folder, "text", lambda path: path.write_text("key")),
    "too large": lambda folder: made(folder, "large", lambda path: path.write_bytes(bytes(70_000))),
    "of another kind": other_kind,
    "a device": lambda _: Path("/dev/zero"),
}


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are those of POSIX")
@pytest.mark.parametrize("make", BAD_KEYS.values(), ids=BAD_KEYS)
def test_what_is_no_key_is_named(signed: Path, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    key = make(tmp_path)
    for use in (sign_bundle, verify_signature, lambda path, key: Classifier(path, trust=key)):
        with pytest.raises(UsageError, match=key.name):
            use(signed, key)


def test_the_halves_of_a_key_are_not_taken_for_one_another(signed: Path, keys: Keys) -> None:
    with pytest.raises(UsageError, match=r"key\.pub is no private key"):
        sign_bundle(signed, keys.public)
    with pytest.raises(UsageError, match=r"key\.pem is no public key"):
        verify_signature(signed, keys.private)


@pytest.mark.parametrize("missing", ["model_signing", "OpenSSL"])
def test_a_missing_library_is_one_sentence_with_the_command(
    signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: Output, missing: str
) -> None:
    for name in [each for each in sys.modules if each.split(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError):
        Classifier(signed, trust=keys.public)
    for words in (
        ["sign", str(signed), "--key", str(keys.private)],
        ["verify", str(signed), "--key", str(keys.public)],
        ["classify", str(signed), "image.jpg", "--trust", str(keys.public)],
    ):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert told == f"vit-edge: error: {missing} is not installed; run: pip install 'vit-edge[sign]'\n"


def test_one_file_has_no_signature(signed: Path, keys: Keys) -> None:
    with pytest.raises(ModelError, match="is no bundle folder, and a signature covers a bundle"):
        Classifier(signed / MODEL, trust=keys.public)


def test_trust_is_a_path(signed: Path) -> None:
    with pytest.raises(UsageError, match="trust must be the path of a public key, got bool"):
        Classifier(signed, trust=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_the_commands_that_run_a_model_ask_for_the_signature(
    signed: Path, keys: Keys, tmp_path: Path, command: str, capsys: Output
) -> None:
    (tmp_path / "image.png").write_bytes(picture())
    words = [command, str(signed), str(tmp_path / "image.png"), "--trust", str(keys.public)]
    assert main(words) == 0
    change(signed / "config.json")  # no file that the command would read
    assert main(words) == 2
    assert "config.json" in capsys.readouterr().err


def test_the_selftest_tells_whether_the_signature_is_good(signed: Path, keys: Keys, capsys: Output) -> None:
    quick = Rounds(at_least=1, seconds=0)
    good = selftest(signed, "cpu", rounds=quick, trust=keys.public)
    assert (good.checks[0].name, good.checks[0].passed) == ("signature", True)
    (signed / "added").touch()
    bad = selftest(signed, "cpu", rounds=quick, trust=keys.public)
    assert bad.checks[0].passed is False
    assert not any(check.name.startswith("answers") for check in bad.checks), "no model is run"
    assert main(["selftest", str(signed), "--provider", "cpu", "--trust", str(keys.public)]) == 1
    assert "added was added" in capsys.readouterr().out


def test_the_device_api_does_not_load_the_library_without_need() -> None:
    code = (
        "import sys, vit_edge.signing; print([m for m in sys.modules if m.startswith(('model_s', 'crypto'))])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(vit_edge.__file__).parent.parent)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.strip() == "[]"
