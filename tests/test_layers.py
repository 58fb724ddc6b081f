"""Imports go one way, and the device API needs numpy, Pillow and onnxruntime only."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vit_edge

PACKAGE = Path(vit_edge.__file__).parent

# A module may import from its own layer and from those before it.
LAYERS: list[set[str]] = [
    {"errors", "arrays", "progress", "__version__"},  # the last is a constant of vit_edge/__init__.py
    {"fields", "files"},
    {"plain"},
    {"spec"},
    {"stated", "source_parity", "embedding_report", "truth_report", "diagnosis"},
    {"gate_report"},
    {"manifest"},
    {"targets", "bundle", "verify", "catalogue"},
    {"golden", "signing"},
    {"runtime"},
    {"package"},
    {"host"},
    {"cli", "__main__"},
]

HOST_ONLY = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "transformers", "timm", "jinja2")

# (module of vit_edge that imports, absolute name of what it imports, whether inside a function)
Import = tuple[str, str, bool]


def imports_of(source: str, module: str) -> Iterator[Import]:
    """Every import statement of one file; relative ones are made absolute."""
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield module, alias.name, id(node) in late
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                yield module, f"{base}.{alias.name}", id(node) in late


def layer_of(name: str) -> int:
    part = name.split(".")[1]
    found = [index for index, layer in enumerate(LAYERS) if part in layer]
    assert len(found) == 1, f"{name} belongs to no layer; add vit_edge.{part} to LAYERS"
    return found[0]


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts)


def all_imports() -> list[Import]:
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    return [found for path in files for found in imports_of(path.read_text(), module_of(path))]


def breaks_the_law(found: Import) -> bool:
    module, name, late = found
    mine = layer_of(module)
    is_host, is_cli = "host" in LAYERS[mine], "cli" in LAYERS[mine]
    if name.split(".")[0] in HOST_ONLY:
        return not (is_host or (is_cli and late))
    if not name.startswith("vit_edge."):
        return False
    if name.startswith("vit_edge.host") and is_cli:
        return not late
    return layer_of(name) > mine


@pytest.mark.parametrize(
    ("module", "source", "breaks"),
    [
        ("vit_edge.spec", "from vit_edge.errors import VitEdgeError", False),
        ("vit_edge.errors", "from vit_edge import spec", True),
        ("vit_edge.verify.gate", "from vit_edge.runtime.session.session import Session", True),
        ("vit_edge.verify.gate", "from ..runtime import session", True),
        ("vit_edge.runtime.session.session", "import vit_edge.host.convert.export", True),
        ("vit_edge.runtime.session.session", "def f():\n    import torch", True),
        ("vit_edge.runtime.session.session", "from onnx import helper", True),
        ("vit_edge.runtime.session.session", "import onnxruntime", False),
        ("vit_edge.host.convert.export", "import torch", False),
        ("vit_edge.host.convert.export", "from vit_edge.cli import main", True),
        ("vit_edge.cli.build", "from vit_edge.host import export", True),
        ("vit_edge.cli.build", "def f():\n    from vit_edge.host import export", False),
        ("vit_edge.cli.build", "import torch", True),
    ],
)
def test_the_law_tells_right_from_wrong(module: str, source: str, breaks: bool) -> None:
    assert any(map(breaks_the_law, imports_of(source, module))) is breaks


def test_every_import_in_the_package_keeps_the_law() -> None:
    assert [found for found in all_imports() if breaks_the_law(found)] == []


def run_python(code: str, **environment: str) -> str:
    """Runs code in a fresh interpreter with nothing but the given environment."""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=PACKAGE.parent, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


BLOCK = f"import sys\nfor name in {HOST_ONLY!r}: sys.modules[name] = None\n"


def test_the_device_api_works_without_any_host_package() -> None:
    code = BLOCK + (
        "import vit_edge\n"
        "from vit_edge import Classifier\n"
        "for name in vit_edge.__all__: getattr(vit_edge, name)\n"
        "import numpy\n"
        "classify = Classifier('tests/data/dynamic.onnx')\n"
        "print(len(classify(numpy.zeros((20, 30, 3), numpy.uint8))))\n"
    )
    assert run_python(code).strip() == "3"


def test_the_device_api_imports_nothing_beyond_the_base_install() -> None:
    code = (
        "import sys, json, sysconfig, pathlib\n"
        "import vit_edge\n"
        "for name in vit_edge.__all__: getattr(vit_edge, name)\n"
        "site = {pathlib.Path(sysconfig.get_path(key)) for key in ('purelib', 'platlib')}\n"
        "files = {n: getattr(m, '__file__', None) for n, m in list(sys.modules.items())}\n"
        "print(json.dumps(sorted({n.split('.')[0] for n, f in files.items()\n"
        "    if f and any(pathlib.Path(f).is_relative_to(s) for s in site)})))\n"
    )
    allowed = {
        "numpy",
        "PIL",
        "onnxruntime",
        "google",
        "flatbuffers",
        "packaging",
        "__editable___vit_edge_finder",
    }
    # What an editable install or the interpreter's start-up puts there begins with an underscore.
    third_party = {name for name in json.loads(run_python(code)) if not name.startswith("_")}
    assert third_party <= allowed
    assert {"numpy", "PIL", "onnxruntime"} <= third_party


def test_importing_the_package_alone_is_cheap() -> None:
    code = "import sys, vit_edge; print([n for n in ('numpy', 'PIL', 'onnxruntime') if n in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize(
    "statement",
    [
        "from vit_edge import Classifier",
        "import vit_edge.runtime.session.session",
        "from vit_edge.runtime.session.providers import CPU",
        "import vit_edge.runtime.predict.classifier",
    ],
)
def test_telemetry_is_off_before_onnxruntime_is_imported(statement: str) -> None:
    code = (
        "import sys, os\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    assert run_python(code + statement).split() == ["1"]


def test_a_users_own_choice_on_telemetry_stands() -> None:
    code = "import vit_edge, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_python(code, ORT_DISABLE_TELEMETRY="0").strip() == "0"


def test_all_is_sorted_complete_and_importable() -> None:
    assert vit_edge.__all__ == sorted(vit_edge.__all__)
    assert set(vit_edge.__all__) == set(vit_edge._HOME)
    for name in vit_edge.__all__:
        assert getattr(vit_edge, name).__name__ == name


def test_what_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonesuch'"):
        _ = vit_edge.Nonesuch
