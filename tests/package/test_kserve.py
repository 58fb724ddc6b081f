"""The resource for KServe: of its published types, with the repository that Triton serves."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.package.conftest import CACHE, run
from tests.package.digits import Digits
from vit_edge.cli import main
from vit_edge.package.kserve import MOST_NAME, service, service_name

PACKAGE = "kserve==0.21.0"
PYTHON = CACHE / f"pip_{PACKAGE.replace('==', '-')}" / "bin" / "python"
# Reads a file as an InferenceService by the types that KServe publishes, and prints what they kept of it. Of
# the package the types alone are read: the rest of it wants a hundred others.
READ = """
import importlib.util, json, sys, types
found = importlib.util.find_spec("kserve")
package = sys.modules["kserve"] = types.ModuleType("kserve")
package.__path__ = list(found.submodule_search_locations)
import kserve.models, yaml
from kubernetes import client
for name, each in vars(kserve.models).items():
    if isinstance(each, type):
        setattr(client.models, name, each)
raw = yaml.safe_load(open(sys.argv[1]))

class Reply:
    data = json.dumps(raw)

api = client.ApiClient()
print(json.dumps([raw, api.sanitize_for_serialization(api.deserialize(Reply, "V1beta1InferenceService"))]))
"""


@pytest.fixture(scope="module")
def package(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kserve") / "app"
    assert main(["package", str(digits.bundle), "--for", "kserve", "-o", str(folder)]) == 0
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_the_repository_of_triton_with_a_resource(
    digits: Digits, package: Path, tmp_path: Path
) -> None:
    assert main(["package", str(digits.bundle), "--for", "triton", "-o", str(tmp_path / "app")]) == 0
    found, triton = files(package), files(tmp_path / "app")
    assert found.keys() - triton.keys() == {"inference-service.yaml"}
    assert {name for name in triton if triton[name] != found[name]} == {"README.md"}
    page = found["README.md"].decode()
    assert "service/vit-edge-digits-predictor" in page
    assert "@" not in page


def read(path: Path) -> "subprocess.CompletedProcess[str]":
    if not PYTHON.exists():
        packages = f"{PACKAGE} (--no-deps), kubernetes==31.0.0 and pyyaml"
        pytest.skip(f"needs kserve: an environment {PYTHON.parent.parent} with {packages}")
    return run(PYTHON, "-c", READ, path)


def lost(given: Any, kept: Any, at: str = "") -> set[str]:
    """What the types know nothing of."""
    if not isinstance(given, dict):
        return set() if given == kept else {at}
    if not isinstance(kept, dict):
        return {at}
    return {path for key, value in given.items() for path in lost(value, kept.get(key), f"{at}/{key}")}


def test_the_resource_is_of_the_published_types(package: Path) -> None:
    done = read(package / "inference-service.yaml")
    assert done.returncode == 0, done.stderr
    given, kept = json.loads(done.stdout)
    assert lost(given, kept) == set()
    assert (given["apiVersion"], given["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert given["metadata"] == {"name": "vit-edge-digits"}
    model = kept["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "triton"}
    assert model["protocolVersion"] == "v2"
    assert model["storageUri"] == "pvc://models/vit-edge-digits"


@pytest.mark.parametrize("word", ["protocolVersion", "predictor", "modelFormat", "storageUri", "limits"])
def test_a_key_that_there_is_not_would_be_noticed(package: Path, tmp_path: Path, word: str) -> None:
    text = (package / "inference-service.yaml").read_text()
    (tmp_path / "bad.yaml").write_text(text.replace(f"{word}:", f"{word}s:"))
    done = read(tmp_path / "bad.yaml")
    if done.returncode:
        assert "must not be `None`" in done.stderr
    else:
        assert any(path.endswith(f"/{word}s") for path in lost(*json.loads(done.stdout)))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("google/ViT-Base_patch16", "vit-edge-google-vit-base-patch16"),
        ("...", "vit-edge-model"),
        ("9", "vit-edge-9"),
        ("x" * 90, "vit-edge-" + "x" * (MOST_NAME - 9)),
        ("y" * 53 + "-" + "z" * 9, "vit-edge-" + "y" * 53),
    ],
)
def test_a_name_is_one_that_kubernetes_takes(source: str, name: str) -> None:
    assert service_name(source) == name
    assert f"  name: {name}\n" in service(source)
