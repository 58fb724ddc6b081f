"""What a source's numbers mean: one of several classes, several labels at once, yes or no, or values.

As transformers' ImageClassificationPipeline decides it: by `problem_type` in config.json, where a regression
gives its values as they are, and with a sigmoid for a head of one number.
"""

import dataclasses
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.sources.labels import label_maps
from vit_edge.host.sources.types import Source, SourceKind, SourceOptions
from vit_edge.runtime.model.outputs import both_names, check_meaning
from vit_edge.spec import OutputKind

PROBLEMS = {
    "single_label_classification": OutputKind.SINGLE_LABEL,
    "multi_label_classification": OutputKind.MULTI_LABEL,
    "regression": OutputKind.REGRESSION,
}
_NO_AND_YES = ("negative", "positive")
_UNSAID = (
    "one number per image and no problem_type in config.json: read as one logit of yes or no, as "
    f"transformers' pipeline does; say --output-kind {OutputKind.REGRESSION.value} if it is a value"
)


def with_meaning(source: Source, options: SourceOptions) -> Source:
    """The source with its output kind, the labels that go with it, and both in its config.

    Args:
        source: as its reader made it; that of an ONNX file knows its kind from the graph.
        options: what the user states.

    Raises:
        SourceError: an unknown problem_type, or a head that does not fit its kind.
    """
    _check_embedding(source, options)
    kind, notes = _kind(source, options)
    if kind is OutputKind.MAP and source.kind is not SourceKind.ONNX:
        raise SourceError(
            f"{source.name} is said to give maps, which are read of ONNX files only: export it to ONNX first"
        )
    try:
        check_meaning(kind, source.numbers)
    except ValueError as error:
        raise SourceError(f"{source.name} {error}") from None
    labels, labels_note = _labels(source, kind)
    return dataclasses.replace(
        source,
        output=kind,
        labels=labels,
        labels_note=labels_note,
        huggingface_config=_published(source.huggingface_config, labels, kind),
        decided=(*source.decided, *notes),
    )


def _check_embedding(source: Source, options: SourceOptions) -> None:
    """Whether a source gives embeddings is known of every library's own models."""
    stated, own = options.output_kind, source.output
    gives = OutputKind.EMBEDDING in (own.task, None if stated is None else stated.task)
    if gives and options.labels is not None:
        raise SourceError(f"{source.name} gives embeddings, which have no classes: leave --labels out")
    if not gives or stated in (None, own) or source.kind in (SourceKind.ONNX, SourceKind.CALLABLE):
        return
    raise SourceError(
        f"{source.name} gives {own.value}, not {stated.value if stated else ''}: leave --output-kind out"
        + ("" if own.task is OutputKind.EMBEDDING else ", and pass --embedder for embeddings beside it")
    )


def _kind(source: Source, options: SourceOptions) -> tuple[OutputKind, tuple[str, ...]]:
    if options.output_kind is not None or source.output is not OutputKind.SINGLE_LABEL:
        return options.output_kind or source.output, ()
    problem = source.huggingface_config.get("problem_type")
    if problem is None:
        unsaid = source.kind is SourceKind.HUGGINGFACE and source.numbers == 1
        return (OutputKind.BINARY, (_UNSAID,)) if unsaid else (OutputKind.SINGLE_LABEL, ())
    if problem not in PROBLEMS:
        raise SourceError(
            f"{source.name}: problem_type in config.json is {problem!r:.60}, not one of {', '.join(PROBLEMS)}"
        )
    kind = PROBLEMS[problem]
    return (OutputKind.BINARY if source.numbers == 1 and kind is not OutputKind.REGRESSION else kind), ()


def _labels(source: Source, kind: OutputKind) -> tuple[tuple[str, ...], str]:
    """Two labels for one logit; values without names are not called classes."""
    labels, note = source.labels, source.labels_note
    if kind.task is OutputKind.EMBEDDING:
        return (), ""
    if kind is OutputKind.MAP:
        named = tuple(f"channel {index}" for index in range(len(labels))) if note else labels
        return named, "the source names no channels, so they are called by their index" if note else ""
    if kind is OutputKind.REGRESSION:
        if len(labels) != source.numbers:
            raise SourceError(f"{source.name} has {len(labels)} names for one value: pass one")
        if note:
            labels = tuple(f"value {index}" for index in range(len(labels)))
        return labels, note
    if kind is not OutputKind.BINARY or len(labels) == 2:
        return labels, note
    if note:
        return _NO_AND_YES, "the source does not name what its one logit says yes to: pass a labels file"
    return both_names(labels, kind), ""


def _published(config: dict[str, Any], labels: tuple[str, ...], kind: OutputKind) -> dict[str, Any]:
    """config.json says the same: readers of Hugging Face's configs take a sigmoid for several labels."""
    if kind is OutputKind.SINGLE_LABEL:
        return config
    if kind.task is OutputKind.EMBEDDING:
        return {key: value for key, value in config.items() if key not in label_maps(())}
    if kind is OutputKind.MAP:
        return {**config, **label_maps(labels)}
    named = labels[1:] if kind is OutputKind.BINARY else labels
    problem = "regression" if kind is OutputKind.REGRESSION else "multi_label_classification"
    return {**config, **label_maps(named), "problem_type": problem}
