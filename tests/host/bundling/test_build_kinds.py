"""A bundle of each kind of head, from the source's folder to report, card and self-test."""

import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.output_kinds import folder_of
from tests.host.pictures import smooth_folders
from vit_edge.bundle import FileEntry, read_bundle, verify_bundle, write_bundle
from vit_edge.cli import main
from vit_edge.errors import BundleError
from vit_edge.host.bundling.recorded import record_parity
from vit_edge.source_parity import ProofState

KINDS = {
    "multi_label_logits": (3, "multi_label_classification", "Each label is there or not by itself"),
    "binary_logit": (1, "multi_label_classification", "One logit says no or yes"),
    "regression": (1, "regression", "The numbers are values, not classes"),
}


def facts_of(page: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(
        re.findall(r'<script type="application/json" id="facts">(.*?)</script>', page, re.S)[0]
    )
    return facts


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    smooth_folders(folder, {"calibration": 8, "check": 24})
    return folder


@pytest.fixture(scope="module")
def built(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of its own per kind, with `source` and `bundle`."""

    @functools.cache
    def once(kind: str) -> Path:
        numbers, problem, _ = KINDS[kind]
        folder = tmp_path_factory.mktemp(kind)
        folder_of(folder / "source", numbers, problem)
        words = [
            "--calib",
            str(images / "calibration"),
            "--data",
            str(images / "check"),
            "--preset",
            "static",
        ]
        out = ["--repair", "never", "--threads", "1", "-o", str(folder / "bundle")]
        assert main(["build", str(folder / "source"), *words, *out]) in (0, 1, 3)  # the verdict, not an error
        return folder

    return once


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_any_kind_is_built_reported_and_runs(
    kind: str, built: Callable[[str], Path], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, told = built(kind) / "bundle", KINDS[kind][2]
    out = str(bundle)
    manifest = json.loads((bundle / "vit_edge.json").read_text())
    assert manifest["output"] == kind
    assert manifest["source_parity"]["state"] == "proven"
    assert told in (bundle / "README.md").read_text()
    page = (bundle / "report.html").read_text()
    facts = json.loads(
        re.findall(r'<script type="application/json" id="facts">(.*?)</script>', page, re.S)[0]
    )
    changed = round(manifest["accuracy"]["data"]["images"] * (1 - manifest["accuracy"]["agreement"] / 100))
    assert facts["flips_total"] == (0 if kind == "regression" else changed)
    capsys.readouterr()
    assert main(["selftest", out]) in (0, 1)  # 1 where the machine is busy
    assert "source to float" in capsys.readouterr().out
    assert main(["inspect", out]) == 0
    assert f"answers          {kind}" in capsys.readouterr().out
    assert main(["classify", out, str(images / "check" / "0.png")]) == 0
    assert "thing 0" in capsys.readouterr().out


def test_parity_is_recorded_in_manifest_card_and_report_at_once(
    built: Callable[[str], Path], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = built("binary_logit")
    source, bundle = str(folder / "source"), folder / "bundle"
    before = verify_bundle(bundle).manifest
    words = ["parity", source, str(bundle), "--data", str(images / "check"), "--limit", "3"]
    assert main(words) == 0
    assert read_bundle(bundle).manifest == before
    assert main([*words, "--record"]) == 0
    assert "recorded in manifest, card and report" in capsys.readouterr().out
    after = verify_bundle(bundle).manifest
    assert after.source_parity.images == 3
    changed = {name for name in after.files if after.files[name] != before.files[name]}
    assert changed == {"README.md", "report.html"}
    assert "same label for 3 of 3 image files" in (bundle / "README.md").read_text()
    page = (bundle / "report.html").read_text()
    assert facts_of(page)["source_parity"] == after.source_parity.to_json()
    assert page.count("same label for 3 of 3 image files") == 2  # shown, and in the data
    main(["selftest", str(bundle)])
    assert "same label for 3 of 3 image files" in capsys.readouterr().out

    said = folder / "said.csv"
    said.write_text("path,label,probability\n0.png,thing 0,0.0\n1.png,not thing 0,0.0\n")
    assert main([*words, "--record", "--reference", str(said)]) == 1
    assert verify_bundle(bundle).manifest.source_parity.state is ProofState.DIFFERS
    assert "**differs**" in (bundle / "README.md").read_text()
    assert '<strong class="word fail">differs</strong>' in (bundle / "report.html").read_text()


def test_what_cannot_be_recorded_is_refused_before_any_work(
    built: Callable[[str], Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = built("binary_logit")
    bundle = folder / "bundle"
    end = ["--data", str(images / "check"), "--limit", "1", "--record"]
    folder_of(tmp_path / "other", 1, "multi_label_classification", seed=1)
    assert main(["parity", str(tmp_path / "other"), str(bundle), *end]) == 2
    assert "was built from source with the SHA-256" in capsys.readouterr().err
    assert main(["parity", str(folder / "source"), str(bundle / "onnx" / "model.onnx"), *end]) == 2
    assert "--record writes into a bundle" in capsys.readouterr().err
    copied = tmp_path / "copied"
    shutil.copytree(bundle, copied)
    (copied / "notes.txt").write_text("mine")
    assert main(["parity", str(folder / "source"), str(copied), *end]) == 2
    assert "does not belong to the bundle" in capsys.readouterr().err


def test_a_card_that_says_something_else_is_not_changed(built: Callable[[str], Path], tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    bundle = verify_bundle(built("binary_logit") / "bundle")
    files = {name: bundle.read(name) for name in bundle.manifest.files} | {"README.md": b"mine"}
    entries = {name: FileEntry.of(data, bundle.manifest.files[name].role) for name, data in files.items()}
    written = write_bundle(copied, files, dataclasses.replace(bundle.manifest, files=entries))
    with pytest.raises(BundleError, match="is not as this vit-edge writes it: build the bundle again"):
        record_parity(copied, bundle.manifest.source_parity)
    assert verify_bundle(copied).manifest == written.manifest
