"""What a source's numbers mean is found, kept in the file, and honoured by the classifier.

The reference is transformers' own pipeline, and onnxruntime on the file as its maker left it.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import transformers
from PIL import Image

from tests.host.output_kinds import ending, folder_of, foreign, renamed_output, source_of
from vit_edge import Classifier
from vit_edge.arrays import Array
from vit_edge.errors import ModelError, SourceError, UsageError
from vit_edge.host.convert.one_file import OptimizeSettings, export_model, optimize_model
from vit_edge.host.convert.onnx_io import read_metadata, read_onnx
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.compare import compare
from vit_edge.runtime.evaluate.dataset import read_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.scores import ranking
from vit_edge.spec import OutputKind, Tolerance


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8))


def own_answers(path: Path, image: Image.Image, output: str = "logits") -> Array:
    """What the file itself gives, by onnxruntime."""
    spec = read_model(path).preprocess
    assert spec is not None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given: Array = session.run([output], {"pixel_values": normalize(load_pixels(image, spec)[None], spec)})[0]
    return np.asarray(given[0])


@pytest.mark.parametrize(
    ("numbers", "problem", "kind"),
    [
        (3, "multi_label_classification", OutputKind.MULTI_LABEL),
        (1, "multi_label_classification", OutputKind.BINARY),
        (1, None, OutputKind.BINARY),
        (3, "single_label_classification", OutputKind.SINGLE_LABEL),
        (3, None, OutputKind.SINGLE_LABEL),
        (2, "regression", OutputKind.REGRESSION),
        (1, "regression", OutputKind.REGRESSION),
    ],
)
def test_a_classifier_scores_as_transformers_pipeline_does(
    numbers: int, problem: str | None, kind: OutputKind, image: Image.Image, tmp_path: Path
) -> None:
    model = folder_of(tmp_path / "source", numbers, problem)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "source", backend="pil")
    pipeline = transformers.pipeline("image-classification", model=model, image_processor=processor)
    expected = {each["label"]: each["score"] for each in pipeline(image)}
    source = resolve(str(tmp_path / "source"), SourceOptions())
    export_model(source, tmp_path / "model.onnx")
    classify = Classifier(tmp_path / "model.onnx")
    found = {each.label: each.score for each in classify(image)}
    assert classify.kind is source.output is kind
    if kind is OutputKind.BINARY:
        assert found.pop("not thing 0") == pytest.approx(1 - expected["thing 0"], abs=1e-5)
    assert found == pytest.approx(expected, abs=1e-5)


def test_one_number_without_a_problem_type_is_noted(tmp_path: Path) -> None:
    source = source_of(tmp_path / "source", 1)
    assert any("--output-kind regression" in note for note in source.decided)
    stated = resolve(str(tmp_path / "source"), SourceOptions(output_kind=OutputKind.REGRESSION))
    assert stated.output is OutputKind.REGRESSION
    assert not any("--output-kind" in note for note in stated.decided)


@pytest.mark.parametrize(
    ("numbers", "activation", "kind", "made"),
    [
        (3, None, OutputKind.SINGLE_LABEL, OutputKind.SINGLE_LABEL),
        (3, "Softmax", OutputKind.SINGLE_LABEL_PROBABILITIES, OutputKind.SINGLE_LABEL),
        (3, "Sigmoid", OutputKind.MULTI_LABEL_PROBABILITIES, OutputKind.MULTI_LABEL),
        (1, "Sigmoid", OutputKind.BINARY_PROBABILITY, OutputKind.BINARY),
    ],
)
def test_a_final_activation_is_seen_directly_and_stripped_and_remembered_in_what_is_made_of_it(
    numbers: int,
    activation: str | None,
    kind: OutputKind,
    made: OutputKind,
    image: Image.Image,
    tmp_path: Path,
) -> None:
    path = foreign(tmp_path / "foreign.onnx", numbers, activation)
    own = own_answers(path, image)
    if activation is None:
        own = np.exp(own) / np.exp(own).sum()
    out = tmp_path / "made.onnx"
    if numbers > 1:  # one number has one label in the file, and the source wants to be told what it means
        direct = {each.index: each.score for each in Classifier(path)(image)}
        assert [direct[index] for index in range(numbers)] == pytest.approx(own.tolist(), abs=1e-6)
        assert read_model(path).output is kind
    export_model(resolve(str(path), SourceOptions()), out)
    found = {each.index: each.score for each in Classifier(out)(image)}
    expected = own.tolist() if numbers > 1 else [1 - own[0], own[0]]
    assert [found[index] for index in sorted(found)] == pytest.approx(expected, abs=1e-6)
    assert read_model(out).output is made
    assert not {"Sigmoid"} & {node.op_type for node in read_onnx(out).graph.node}
    optimize_model(path, tmp_path / "optimized.onnx", OptimizeSettings())
    assert read_model(tmp_path / "optimized.onnx").output is made


@pytest.mark.parametrize(
    ("end", "made"),
    [
        ("softmax in float16", OutputKind.SINGLE_LABEL),
        ("softmax, reshaped", OutputKind.SINGLE_LABEL),
        ("softmax of a column", OutputKind.SINGLE_LABEL),
        ("log-softmax", OutputKind.SINGLE_LABEL),
        ("sigmoid in float16", OutputKind.MULTI_LABEL),
    ],
)
def test_an_activation_behind_casts_and_reshapes_is_stripped_and_noted(
    end: str, made: OutputKind, image: Image.Image, tmp_path: Path
) -> None:
    path = ending(tmp_path / "foreign.onnx", end)
    own = own_answers(path, image)
    expected = np.exp(own) if end == "log-softmax" else own
    source = resolve(str(path), SourceOptions())
    assert source.output is made
    assert any("which is taken off, so its numbers are read as" in note for note in source.notes)
    export_model(source, tmp_path / "made.onnx")
    optimize_model(path, tmp_path / "optimized.onnx", OptimizeSettings())
    for file in (tmp_path / "made.onnx", tmp_path / "optimized.onnx", path):
        found = {each.index: each.score for each in Classifier(file)(image)}
        rounding = 1e-3 if "float16" in end else 1e-6
        assert [found[index] for index in range(3)] == pytest.approx(expected.tolist(), abs=rounding)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("softmax twice", "ends in a Softmax and a Softmax behind it, of which one is a mistake"),
        ("softmax of a row", "ends in a Softmax that is not over its classes"),
        ("softmax in parts", "add up to 1 for every image, as probabilities do"),
        ("softmax in percent", "add up to 100 for every image"),
        ("softmax, clipped", "add up to 1 for every image"),
        ("sigmoid in parts", "lie from 0 to 1 for every image"),
        ("hard sigmoid", "lie from 0 to 1 for every image"),
    ],
)
def test_probabilities_by_other_operators_are_never_taken_for_logits(
    end: str, message: str, tmp_path: Path
) -> None:
    path = ending(tmp_path / "foreign.onnx", end)
    with pytest.raises(SourceError, match=message):
        resolve(str(path), SourceOptions())
    with pytest.raises(ModelError, match=message):
        optimize_model(path, tmp_path / "optimized.onnx", OptimizeSettings())


def test_what_looks_like_probabilities_is_logits_if_the_user_says_so(tmp_path: Path) -> None:
    path = ending(tmp_path / "foreign.onnx", "hard sigmoid")
    source = resolve(str(path), SourceOptions(output_kind=OutputKind.SINGLE_LABEL))
    assert source.output is OutputKind.SINGLE_LABEL
    assert not source.notes
    assert not resolve(str(ending(path, "tanh")), SourceOptions()).notes


def test_a_classifier_refuses_probabilities_that_it_would_apply_a_softmax_to(
    image: Image.Image, tmp_path: Path
) -> None:
    path = ending(tmp_path / "foreign.onnx", "softmax, clipped")
    with pytest.raises(ModelError, match=r"add up to 1.*--output-kind single_label_probabilities"):
        Classifier(path)(image)
    found = Classifier(path, kind=OutputKind.SINGLE_LABEL_PROBABILITIES)(image)
    expected = own_answers(path, image)
    assert {each.index: each.score for each in found} == pytest.approx(dict(enumerate(expected)), abs=1e-6)


@pytest.mark.parametrize(
    ("activation", "stated"),
    [
        ("Softmax", OutputKind.MULTI_LABEL),
        ("Sigmoid", OutputKind.SINGLE_LABEL),
    ],
)
def test_a_meaning_that_the_graph_contradicts_is_refused(
    activation: str, stated: OutputKind, tmp_path: Path
) -> None:
    path = foreign(tmp_path / "foreign.onnx", 3, activation)
    with pytest.raises(SourceError, match=f"ends in a {activation}.*said to give {stated.value}"):
        resolve(str(path), SourceOptions(output_kind=stated))
    with pytest.raises(ModelError, match=f"ends in a {activation}.*said to give {stated.value}"):
        Classifier(path, kind=stated)


def test_a_stated_regression_keeps_its_sigmoid(image: Image.Image, tmp_path: Path) -> None:
    path = foreign(tmp_path / "foreign.onnx", 1, "Sigmoid")
    export_model(resolve(str(path), SourceOptions(output_kind=OutputKind.REGRESSION)), tmp_path / "made.onnx")
    (found,) = Classifier(tmp_path / "made.onnx")(image)
    assert found.score == pytest.approx(float(own_answers(path, image)[0]), abs=1e-6)


def test_of_several_outputs_the_logits_are_taken(image: Image.Image, tmp_path: Path) -> None:
    path = foreign(tmp_path / "foreign.onnx", 3, None, ("embedding",))
    expected = own_answers(path, image)
    source = resolve(str(path), SourceOptions())
    assert source.labels == ("thing 0", "thing 1", "thing 2")
    export_model(source, tmp_path / "made.onnx")
    assert [output.name for output in read_onnx(tmp_path / "made.onnx").graph.output] == ["logits"]
    assert own_answers(tmp_path / "made.onnx", image) == pytest.approx(expected, abs=1e-5)
    assert Classifier(path)(image)[0].index == int(expected.argmax())


def test_of_outputs_without_a_known_name_the_one_that_fits_the_labels_is_taken(tmp_path: Path) -> None:
    path = renamed_output(foreign(tmp_path / "foreign.onnx", 3, None, ("embedding",)), "logits", "y")
    source = resolve(str(path), SourceOptions())
    assert source.output_name == read_model(path).scores == "y"
    assert any("of its outputs (embedding, y) y holds the answers" in note for note in source.notes)
    assert not resolve(str(path), SourceOptions(output="y")).notes


def test_outputs_that_cannot_be_told_apart_are_named_in_the_refusal(
    image: Image.Image, tmp_path: Path
) -> None:
    path = renamed_output(foreign(tmp_path / "foreign.onnx", 3, None, ("embedding",)), "logits", "y")
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != "vit_edge.labels"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, path)
    with pytest.raises(SourceError, match=r"embedding \(\?, 32\), y \(\?, 3\).*--output"):
        resolve(str(path), SourceOptions())
    with pytest.raises(ModelError, match=r"embedding \(\?, 32\), y \(\?, 3\).*--output"):
        Classifier(path)
    with pytest.raises(SourceError, match="has no output 'z'"):
        resolve(str(path), SourceOptions(output="z"))
    assert resolve(str(path), SourceOptions(output="y")).numbers == 3
    classify = pickle.loads(pickle.dumps(Classifier(path, output="y")))  # noqa: S301  our own bytes
    assert len(classify(image)) == 3


def test_one_number_that_nothing_explains_is_refused_until_it_is_stated(
    image: Image.Image, tmp_path: Path
) -> None:
    path = foreign(tmp_path / "foreign.onnx", 1, None)
    with pytest.raises(SourceError, match="--output-kind binary_logit or regression"):
        resolve(str(path), SourceOptions())
    with pytest.raises(ModelError, match="--output-kind binary_logit or regression"):
        Classifier(path)
    (found,) = Classifier(path, kind=OutputKind.REGRESSION)(image)
    assert found.score == pytest.approx(float(own_answers(path, image)[0]))
    assert resolve(str(path), SourceOptions(output_kind=OutputKind.BINARY)).labels == (
        "not thing 0",
        "thing 0",
    )


def test_a_softmax_over_one_number_is_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "foreign.onnx", 1, "Softmax")
    with pytest.raises(SourceError, match="Softmax over one number"):
        resolve(str(path), SourceOptions())


@pytest.mark.parametrize("problem", ["ranking", 3])
def test_an_unknown_problem_type_is_refused(problem: object, tmp_path: Path) -> None:
    folder_of(tmp_path / "source", 3, None)
    config = tmp_path / "source" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"problem_type": problem}))
    with pytest.raises(SourceError, match="problem_type"):
        resolve(str(tmp_path / "source"), SourceOptions())


def test_a_head_of_several_numbers_is_no_single_logit(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="3 numbers per image"):
        source_of(tmp_path / "source", 3, output_kind=OutputKind.BINARY)
    with pytest.raises(UsageError, match="single_label_logits"):
        SourceOptions(output_kind=OutputKind.SINGLE_LABEL_PROBABILITIES)


def test_files_of_single_labels_say_nothing_more_than_before_and_unknown_kinds_are_refused(
    tmp_path: Path,
) -> None:
    source = source_of(tmp_path / "source", 3)
    export_model(source, tmp_path / "model.onnx")
    model = read_onnx(tmp_path / "model.onnx")
    assert "vit_edge.output" not in {entry.key for entry in model.metadata_props}
    assert read_metadata(model, "model").output is OutputKind.SINGLE_LABEL
    model.metadata_props.add(key="vit_edge.output", value='"ranking"')
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"vit_edge\.output metadata .*multi_label_logits"):
        read_model(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"vit_edge\.output"):
        read_metadata(model, "model")


def test_two_classes_and_one_logit_answer_alike() -> None:
    for z in (-90.0, -2.0, 0.0, 0.3, 40.0):
        one = ranking(OutputKind.BINARY)(np.array([z], np.float32), 2)
        two = ranking(OutputKind.SINGLE_LABEL)(np.array([0.0, z], np.float32), 2)
        assert [index for index, _ in one] == [index for index, _ in two]
        assert [score for _, score in one] == pytest.approx([score for _, score in two], abs=1e-7)


def test_config_names_one_label_for_one_logit(tmp_path: Path) -> None:
    source = source_of(tmp_path / "source", 1)
    assert source.huggingface_config["id2label"] == {"0": "thing 0"}
    assert source.huggingface_config["problem_type"] == "multi_label_classification"
    named = tmp_path / "labels.txt"
    named.write_text("dog\ncat\n")
    assert resolve(str(tmp_path / "source"), SourceOptions(labels=named)).labels == ("dog", "cat")


def test_a_file_that_ends_in_a_softmax_agrees_with_its_own_logits_in_compare(tmp_path: Path) -> None:
    path = foreign(tmp_path / "foreign.onnx", 3, "Softmax")
    export_model(resolve(str(path), SourceOptions()), tmp_path / "made.onnx")
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(12):
        pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    report = compare(
        read_model(path), read_model(tmp_path / "made.onnx"), read_images(folder), Tolerance()
    ).report
    assert report.agreement == 100.0
    assert report.logit_sqnr_db > 80
    assert report.evidence.mean_kl == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ModelError, match=r"single_label_probabilities.*regression"):
        compare(
            read_model(path),
            read_model(tmp_path / "made.onnx", wanted=OutputWanted(kind=OutputKind.REGRESSION)),
            read_images(folder),
            Tolerance(),
        )
