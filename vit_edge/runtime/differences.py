"""What differs from one bundle to another: files, recipe, decisions, verdicts, golden answers."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vit_edge import fields
from vit_edge.bundle import EMBEDDER_ROLES, MODEL_ROLES, Bundle, verify_bundle
from vit_edge.golden import read_golden
from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.predict.classifier import Classifier, Prediction
from vit_edge.verify.words import percent

_PNG = DecodeLimits(formats=(ImageFormat.PNG,))


@dataclasses.dataclass(frozen=True)
class Difference:
    """One thing that two bundles do not have alike."""

    kind: (
        str  # source, tools, preprocessing, output, labels, default model, file, decision, verdict or answer
    )
    what: str
    before: str  # "none" where the first bundle does not have it
    after: str

    def to_json(self) -> dict[str, str]:
        """The stable keys of one entry of `vit-edge bundle diff --json`."""
        return dataclasses.asdict(self)


def differences(before: Path, after: Path) -> tuple[Difference, ...]:
    """Compare two bundles; both are checked against their manifests, and their default models are run.

    Args:
        before: a bundle folder; its golden images are what both answer.
        after: another.

    Returns:
        What differs; of the files only models are compared.

    Raises:
        BundleError: no bundle, or a damaged one.
        ModelError: a default model that cannot be loaded.
    """
    first, second = verify_bundle(before), verify_bundle(after)
    return tuple(
        found for part in (_records, _decisions, _verdicts, _answers) for found in part(first, second)
    )


def _records(first: Bundle, second: Bundle) -> Iterator[Difference]:
    """What the manifests say outright."""
    one, two = first.manifest, second.manifest
    yield from _apart(
        "source",
        {"name": one.source.name, "weights": one.source.sha256},
        {"name": two.source.name, "weights": two.source.sha256},
    )
    yield from _apart("tools", one.tools, two.tools)
    yield from _apart("preprocessing", one.preprocess.to_json(), two.preprocess.to_json())
    yield from _apart("output", {"kind": one.output.value}, {"kind": two.output.value})
    yield from _apart("default model", {"path": one.default_model}, {"path": two.default_model})
    yield from _apart("file", _models(first), _models(second))


def _models(bundle: Bundle) -> dict[str, str]:
    """Model files: their size, and the beginning of their SHA-256."""
    return {
        name: f"{entry.size / 1e6:.2f} MB ({entry.sha256[:8]})"
        for name, entry in bundle.manifest.files.items()
        if entry.role in MODEL_ROLES + EMBEDDER_ROLES
    }


def _decisions(first: Bundle, second: Bundle) -> Iterator[Difference]:
    """The form that each layer took."""
    one, two = ({layer.name: layer.form for layer in each.manifest.layers} for each in (first, second))
    yield from _apart("decision", one, two)


def _verdicts(first: Bundle, second: Bundle) -> Iterator[Difference]:
    """What was found of each model on the check images."""
    one, two = map(_judged, (first, second))
    yield from _apart("verdict", one, two)


def _judged(bundle: Bundle) -> dict[str, str]:
    """Of each model the verdict, and top-1 and agreement in percent to two digits."""
    accuracy = bundle.manifest.accuracy
    found: dict[str, str] = {}
    for name, report in (accuracy.models if accuracy is not None else {}).items():
        found[f"{name} verdict"] = report.verdict.value
        found[f"{name} agreement"] = percent(report.agreement)
        if report.top1_quant is not None:
            found[f"{name} top-1"] = percent(report.top1_quant)
    return found


def _answers(first: Bundle, second: Bundle) -> Iterator[Difference]:
    """What both default models say of the first bundle's golden images, to three digits."""
    images = dict.fromkeys(case.image for case in read_golden(first))
    one, two = (Classifier(each.path, decoding=Decoding.EXACT, limits=_PNG) for each in (first, second))
    yield from _apart("labels", _labels(one), _labels(two))
    for image in images:
        data = first.read(image)
        yield from _apart(
            "answer", {image: _shown(one(data, top_k=1)[0])}, {image: _shown(two(data, top_k=1)[0])}
        )


def _labels(classify: Classifier) -> dict[str, str]:
    return {str(index): label for index, label in enumerate(classify.labels or ())}


def _shown(best: Prediction) -> str:
    return f"{best.label} {best.score:.3f}"


def _apart(kind: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Difference]:
    """Every key whose value is not the same, those of the first in front."""
    for key in dict.fromkeys([*one, *two]):
        before, after = one.get(key), two.get(key)
        if before != after:
            yield Difference(kind, key, _text(before), _text(after))


def _text(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else fields.shown(value)
