"""The homes, and the files of each: templates, `model.json` and what the bundle gives."""

import dataclasses
import enum
import importlib.resources
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import onnxruntime

from vit_edge.errors import UsageError
from vit_edge.files import draft_beside
from vit_edge.package.c import model_header
from vit_edge.package.contents import Contents, contents_of
from vit_edge.package.kserve import service, service_name
from vit_edge.package.mobile import OPERATORS, for_phones, required_operators
from vit_edge.package.triton import repository
from vit_edge.package.web import runtime_files, web_release

Files = dict[str, bytes]

_CHECKED_IN_C = ("pixels.c", "pixels.h", "classify.c", "Makefile")


class Home(enum.Enum):
    """Where a package runs; the value is what users call it."""

    NODE = "node"
    WEB = "web"
    C = "c"
    TRITON = "triton"
    KSERVE = "kserve"
    ANDROID = "android"
    IOS = "ios"


# Whose checks hold every output of a model of boxes or maps.
_OF_PLACES = (Home.NODE, Home.WEB, Home.TRITON, Home.KSERVE)


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written, and what is left for the user to do."""

    folder: Path
    files: int
    size: int  # bytes
    next_step: str  # a sentence


def package(bundle: Path, home: Home, target: Path, modules: Path | None = None) -> Written:
    """Write a package for one home, complete or not at all.

    Args:
        bundle: a bundle folder.
        home: where it will run.
        target: the folder to make; an empty one may be there.
        modules: of the web: a folder `node_modules` to take onnxruntime-web from.

    Raises:
        UsageError: the target holds something, or cannot be written.
        BundleError: the bundle is malformed, damaged or lacks what a package needs.
        ModelError: a model file that takes no single images.
    """
    check_free(target)
    contents = contents_of(bundle)
    check_home(contents, home, bundle)
    make: dict[Home, Callable[[Contents, Path | None], tuple[Files, str]]] = {
        Home.NODE: _node,
        Home.WEB: _web,
        Home.C: _c,
        Home.TRITON: _triton,
        Home.KSERVE: _kserve,
        Home.ANDROID: _android,
        Home.IOS: _ios,
    }
    files, next_step = make[home](contents, modules)
    write_files(target, files)
    return Written(target, len(files), sum(map(len, files.values())), next_step.format(target=target))


def check_home(contents: Contents, home: Home, bundle: Path) -> None:
    """Refuse a home that knows classes alone for a bundle of boxes or maps.

    Raises:
        UsageError: says which homes serve it.
    """
    if contents.gives and home not in _OF_PLACES:
        others = ", ".join(each.value for each in _OF_PLACES)
        command, opener = {"boxes": ("detect", "Detector")}.get(contents.gives, ("segment", "Segmenter"))
        raise UsageError(
            f"--for {home.value} packs classifiers, and {bundle} gives {contents.gives}: choose {others}, or "
            f"run vit-edge {command} or vit_edge.{opener} on the device"
        )


def site_files(bundle: Path, modules: Path | None = None) -> Files:
    """The files of a site that runs as it is, by their paths in it.

    Args:
        bundle: a bundle folder.
        modules: a folder `node_modules` to take onnxruntime-web from; by default the one here.

    Raises:
        UsageError: onnxruntime-web is not there.
        BundleError, ModelError: as for `package`.
    """
    files, _ = _web(contents_of(bundle), modules)
    if runtime_files(modules) is None:
        raise UsageError(
            "--serve needs onnxruntime-web: give --modules DIR, a node_modules folder made by "
            f"npm install --ignore-scripts onnxruntime-web@{web_release().version}"
        )
    return files


def _node(contents: Contents, _: Path | None) -> tuple[Files, str]:
    name = re.sub(r"[^a-z0-9]+", "-", contents.source.lower()).strip("-") or "model"
    files = _common(contents) | _templates("shared") | _templates("node", NAME=f"vit-edge-{name}"[:200])
    return files, "in {target} run: npm install --ignore-scripts && npm run check"


def _c(contents: Contents, _: Path | None) -> tuple[Files, str]:
    about = json.dumps(contents.about(), indent=1, allow_nan=False) + "\n"
    made = {"model.h": model_header(contents).encode("ascii"), "model.json": about.encode()}
    return made | dict(contents.files) | _templates(
        "c"
    ), "in {target} run: make check ORT=FOLDER of onnxruntime"


def _triton(contents: Contents, _: Path | None) -> tuple[Files, str]:
    next_step = "tritonserver --model-repository={target}/models serves it, {target}/check.py checks it"
    return repository(contents) | _templates("triton"), next_step


def _android(contents: Contents, _: Path | None) -> tuple[Files, str]:
    return _phone(contents, "android"), "{target}/README.md says where in an app its files go"


def _ios(contents: Contents, _: Path | None) -> tuple[Files, str]:
    return _phone(contents, "ios"), "{target}/README.md says where in an app its files go"


def _phone(contents: Contents, folder: str) -> Files:
    """What is of the phone, and the program in C that checks a machine."""
    packed = for_phones(contents)
    native = {name: data for name, data in _templates("c").items() if name in _CHECKED_IN_C}
    operators = required_operators({each.path: each.model.data for each in packed.models})
    header = model_header(packed).encode("ascii")
    made = _common(packed) | {"model.h": header, OPERATORS: operators.encode()}
    return made | native | _templates(folder, ORT=onnxruntime.__version__)


def _kserve(contents: Contents, _: Path | None) -> tuple[Files, str]:
    name = service_name(contents.source)
    files = _triton(contents, None)[0] | _templates("kserve", SERVICE=name)  # with a page of its own
    files["inference-service.yaml"] = service(contents.source).encode()
    return files, "set storageUri in {target}/inference-service.yaml, then kubectl apply -f it"


def _web(contents: Contents, modules: Path | None) -> tuple[Files, str]:
    files = _common(contents) | _templates("shared") | _templates("web")
    runtime = runtime_files(modules)
    if runtime is None:
        return files, f"{{target}}/ort lacks onnxruntime-web; {web_release().fetching}"
    return files | runtime, "see it with: python -m http.server -b 127.0.0.1 -d {target}"


def _common(contents: Contents) -> Files:
    about = json.dumps(contents.about(), indent=1, allow_nan=False) + "\n"
    return {"model.json": about.encode(), **contents.files}


def _templates(folder: str, **words: str) -> Files:
    """The files of a folder of templates; `@WORD@` in them is replaced."""
    place = importlib.resources.files("vit_edge.package") / "templates" / folder
    found = {}
    for each in place.iterdir():
        text = each.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        found[each.name] = text.encode()
    return found


def write_files(target: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their paths in a folder, all of them or none.

    Args:
        target: the folder to make, see `check_free`.
        files: their bytes.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        with draft_beside(target, folder=True) as draft:
            for name, data in files.items():
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if target.is_dir():
                target.rmdir()  # it is empty
            draft.rename(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written ({error.strerror})") from error


def check_free(target: Path) -> None:
    """Refuse a target that holds something, or that cannot be made.

    Raises:
        UsageError: it does.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"-o {target} exists and is no folder; choose another output")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"-o {target} exists and is not empty; choose another output, or remove it first")
    if not target.parent.is_dir():
        raise UsageError(f"-o {target} cannot be written: name a folder in one that exists")
