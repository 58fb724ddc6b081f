"""Every public error is in one tree, is the builtin that a caller expects, and is raised in earnest."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import vit_edge
from vit_edge import Classifier, errors, read_bundle, read_model, verify_bundle
from vit_edge.bundle import MANIFEST
from vit_edge.errors import (
    BundleError,
    ContractError,
    DatasetError,
    ImageError,
    IntegrityError,
    KernelsError,
    MissingExtraError,
    ModelError,
    ParityError,
    ProviderError,
    SignatureError,
    SourceError,
    StepError,
    TargetError,
    UsageError,
    VitEdgeError,
)
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.targets import load_target

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(vit_edge.__file__).parent
MODEL = ROOT / "tests" / "data" / "dynamic.onnx"

PUBLIC = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
}

BUILTIN: dict[type[VitEdgeError], type[Exception]] = {
    UsageError: ValueError,
    SourceError: ValueError,
    ModelError: ValueError,
    ContractError: ValueError,
    KernelsError: ValueError,
    ParityError: ArithmeticError,
    BundleError: ValueError,
    IntegrityError: ValueError,
    SignatureError: ValueError,
    ImageError: ValueError,
    DatasetError: ValueError,
    TargetError: ValueError,
    ProviderError: RuntimeError,
    MissingExtraError: ImportError,
    StepError: RuntimeError,
}


def test_the_tree_holds_every_error_of_the_package() -> None:
    assert set(PUBLIC.values()) == {VitEdgeError, *BUILTIN}


@pytest.mark.parametrize("kind", BUILTIN, ids=lambda kind: kind.__name__)
def test_an_error_is_also_the_builtin_that_a_caller_expects(kind: type[VitEdgeError]) -> None:
    assert issubclass(kind, VitEdgeError)
    assert issubclass(kind, BUILTIN[kind])
    assert kind.__name__ in (errors.__doc__ or "")
    assert (kind.__doc__ or "").strip()


def broken_bundle(folder: Path) -> object:
    (folder / MANIFEST).write_text("{")
    return read_bundle(folder)


def damaged_bundle(folder: Path) -> object:
    from tools.kill_test import bundle_job

    bundle_job().run(folder)
    (folder / "bundle" / "README.md").write_text("other")
    return verify_bundle(folder / "bundle")


PROVOCATIONS: dict[type[VitEdgeError], Callable[[Path], object]] = {
    UsageError: lambda _: Classifier(MODEL)(b"", top_k=0),
    ModelError: lambda folder: read_model(folder / "missing.onnx"),
    BundleError: broken_bundle,
    IntegrityError: damaged_bundle,
    ImageError: lambda _: Classifier(MODEL)(b"no image"),
    DatasetError: list_images,
    TargetError: lambda _: load_target("nonesuch"),
    ProviderError: lambda _: Classifier(MODEL, provider="warp"),
}


@pytest.mark.parametrize("kind", PROVOCATIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("caught_as", ["own", "tree", "builtin"])
def test_the_device_api_raises_it_in_one_sentence(
    tmp_path: Path, kind: type[VitEdgeError], caught_as: str
) -> None:
    expected: type[Exception] = {"own": kind, "tree": VitEdgeError, "builtin": BUILTIN[kind]}[caught_as]
    with pytest.raises(expected) as caught:
        PROVOCATIONS[kind](tmp_path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert 20 < len(str(caught.value)) < 1000


def raised_names(path: Path) -> set[str]:
    """The names of what a file raises with `raise NAME(...)`."""
    calls = [node.exc for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    return {call.func.id for call in calls if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}


def test_every_error_has_a_place_that_raises_it() -> None:
    raised = set().union(*(raised_names(path) for path in PACKAGE.rglob("*.py")))
    missing = {"MissingExtraError"}  # the command line turns a ModuleNotFoundError into its text
    assert {kind.__name__ for kind in BUILTIN} - missing <= raised


# Below what knows the user's file: these speak to their callers, which turn them into errors of the tree.
BETWEEN = {
    "files/read.py": {"OSError"},  # as `open` does
    "files/replace.py": {"OSError"},
    "files/write.py": {"IsADirectoryError"},
    "cli/console.py": {"OSError"},
    "host/compilers/rockchip_script.py": {"SystemExit"},  # a program of its own
    "runtime/image/avif.py": {"TooMuch"},
    "runtime/image/boxes.py": {"TooMuch"},
    "runtime/image/decode.py": {"TooMuch"},
    "runtime/image/effort.py": {"TooMuch"},
    "runtime/image/jpeg2000.py": {"TooMuch"},
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_but_these_and_a_few_builtins_is_raised(path: Path) -> None:
    """A ValueError of a reader is turned into one of the tree by who knows the file."""
    allowed = {*PUBLIC, "ValueError", "AttributeError", "KeyError", "TypeError", "NotImplementedError"}
    own = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    arguments = {"ArgumentTypeError"}
    between = BETWEEN.get(path.relative_to(PACKAGE).as_posix(), set())
    assert raised_names(path) <= allowed | own | arguments | between


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    error = MissingExtraError("torch", "host")
    assert str(error) == "torch is not installed; run: pip install 'vit-edge[host]'"
    with pytest.raises(ImportError):
        raise error


def test_a_missing_package_becomes_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vit_edge.cli import main, targets

    def absent(_: object) -> int:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(targets, "run", absent)
    assert main(["targets"]) == 2
    assert "pip install 'vit-edge[host]'" in capsys.readouterr().err
