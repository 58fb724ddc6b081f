"""A Hugging Face folder whose module transformers brings: CLIP, SigLIP, DINOv2, BEiT, Swin, image towers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints import files_sha256, read_weights
from vit_edge.host.sources.configs import with_labels
from vit_edge.host.sources.families import TOWERS as TEXT_TOWERS
from vit_edge.host.sources.families import Family
from vit_edge.host.sources.folder_processor import FolderProcessor
from vit_edge.host.sources.labels import choose_labels, from_id2label
from vit_edge.host.sources.preprocessing import (
    with_options,
)
from vit_edge.host.sources.quiet import first_line
from vit_edge.host.sources.towers import TOWERS, Embedded, Tower, Vector, tower_of
from vit_edge.host.sources.transformers_model import (
    Logits,
    class_name,
    family_of_config,
    load,
    own_size,
    refuse_unbounded,
    resampling,
)
from vit_edge.host.sources.types import (
    Apart,
    Library,
    OwnPipeline,
    Prompts,
    Source,
    SourceKind,
    SourceOptions,
)
from vit_edge.host.sources.zero_shot import meaning_of, prompts_of, tower_name, zero_shot
from vit_edge.spec import OutputKind, PreprocessSpec

_LEAST_MAJOR = 5  # of transformers: earlier ones leave tables of indices to the weights file


def from_transformers(
    folder: Path, raw: Mapping[str, Any], name: str, files: tuple[Path, ...], options: SourceOptions
) -> Source:
    """Read a classifier or an image tower through transformers' own module, from the folder alone.

    Args:
        folder: where it lies.
        raw: its config.json.
        name: of the source, without any path.
        files: its weights.
        options: what the user states.

    Raises:
        SourceError: another family, transformers not installed, weights that do not fit, or an image size
            that the model does not take; the message names the file and the mend.
    """
    where = str(folder / "config.json")
    prompts = None if options.labels_text is None else prompts_of(options)
    bare = tower_of(raw) if prompts is None else None
    model_type, family = family_of_config(raw, where, tower=bare is not None)
    transformers = _transformers(family, where)
    if prompts is not None:
        kind = tower_name(raw, model_type, family, where)
    else:
        kind = bare or class_name(transformers, raw, model_type, family, where)
    tower = None if bare is None else TOWERS[bare]
    refuse_unbounded(raw, where)
    processor = FolderProcessor.of(folder, model_type)
    state = read_weights(files, options.allow_pickle, options.weights)
    pooled = tower is not None and tower.vector is Vector.POOLED
    model: Any = load(transformers, raw, state, kind, where, pooled=pooled)
    if tower is not None:
        model = Embedded(model, tower)
    if prompts is not None:
        model = zero_shot(transformers, model, folder, prompts)
    wrapped, size = _at_size(model, kind, processor.spec, options, where)
    preprocess = with_options(processor.spec, options, size, str(folder))
    stated = _stated_labels(raw, prompts, where)
    labels, note = choose_labels(options.labels, stated, wrapped.numbers, str(folder))
    return Source(
        name=name,
        kind=SourceKind.HUGGINGFACE,
        module=wrapped.eval(),
        onnx_path=None,
        config=None,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=files_sha256(files),
        huggingface_config=with_labels(raw, labels, size),
        preprocessor_config=processor.published(preprocess, options),
        own_pipeline=OwnPipeline(
            Library.TRANSFORMERS,
            folder,
            stated=options.stated,
            no_recipe=processor.config is None,
            states_kind=options.output_kind is not None,
            names_classes=options.labels is None,
            prompts=prompts,
            tower=bare,
        ),
        decided=(
            f"the model is {kind} of transformers {transformers.__version__}{_of_texts(prompts)}",
            *_of_tower(tower, kind),
            *processor.decided(preprocess, options),
            *_resized(model, size),
        ),
        output=_output(model_type, prompts, tower),
        values=wrapped.numbers,
        apart=Apart(family.name, family.apart),
    )


def _output(model_type: str, prompts: Prompts | None, tower: Tower | None) -> OutputKind:
    if tower is not None:
        return tower.output
    return OutputKind.SINGLE_LABEL if prompts is None else meaning_of(model_type)


def _of_tower(tower: Tower | None, kind: str) -> tuple[str, ...]:
    if tower is None:
        return ()
    use = " (name classes with --labels-text to use it)" if kind in TEXT_TOWERS.values() else ""
    texts = f"; its text tower is left out{use}" if tower.texts else ""
    return (f"it has no classifier: {tower.words}{texts}",)


def _stated_labels(raw: Mapping[str, Any], prompts: Prompts | None, where: str) -> tuple[str, ...] | None:
    if prompts is not None:
        return prompts.labels
    named = raw.get("id2label")
    return None if named is None else from_id2label(named, where)


def _of_texts(prompts: Prompts | None) -> str:
    return (
        ""
        if prompts is None
        else f", its classes the texts {prompts.template!r} of {len(prompts.labels)} names"
    )


def _transformers(family: Family, where: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise SourceError(
            f"{where} is of {family.name}, which is read through transformers: pip install transformers"
        ) from None
    if int(transformers.__version__.partition(".")[0]) < _LEAST_MAJOR:
        raise SourceError(
            f"{where} is of {family.name}, which is read through transformers {_LEAST_MAJOR} or newer, not "
            f"{transformers.__version__}: pip install --upgrade transformers"
        )
    return transformers


def _at_size(
    model: Any, kind: str, spec: PreprocessSpec | None, options: SourceOptions, where: str
) -> tuple[Logits, tuple[int, int]]:
    """The model at the size (height, width) that is stated, or that its images are brought to.

    As in transformers' pipeline the image processor decides, where the model takes what it gives.
    """
    trained = own_size(model.config)
    made = None if spec is None else (spec.height, spec.width)
    size = options.image_size or made or trained
    if size is None:
        raise SourceError(f"{where} does not say what size its images have: pass --image-size")
    more = resampling(model.config, size) if options.image_size is not None else {}
    try:
        return Logits(model, size, more), size
    except Exception as error:  # whatever the model's code raises
        own = "" if trained is None else f", made for {trained[0]}x{trained[1]}"
        raise SourceError(
            f"{where}: a {kind}{own}, does not take images of {size[0]}x{size[1]} pixels "
            f"({first_line(error)}): pass --image-size"
        ) from error


def _resized(model: Any, size: tuple[int, int]) -> tuple[str, ...]:
    trained = own_size(model.config)
    if trained in (None, size) or trained is None:
        return ()
    before, after = (f"{height}x{width}" for height, width in (trained, size))
    return (f"trained at {before} pixels, run at {after}, with positions as transformers makes them",)
