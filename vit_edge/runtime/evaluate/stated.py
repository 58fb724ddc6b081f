"""Model files of other makers say nothing about their images; what the user states takes its place."""

import dataclasses

from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import InputForm, PreprocessSpec
from vit_edge.stated import UNSTATED, StatedPreprocess


def with_stated(
    models: tuple[ModelFile, ModelFile],
    stated: StatedPreprocess,
    alone: StatedPreprocess = UNSTATED,
) -> tuple[ModelFile, ModelFile]:
    """Both models, those that carry no preprocessing with what is stated.

    Args:
        models: the float one, and the one to be judged.
        stated: of either.
        alone: of the second, where its images are made otherwise; what it leaves out is as for the first.

    Raises:
        UsageError: something is stated of models that carry their own.
        ModelError: what is stated does not complete a recipe, or does not fit the model's input.
    """
    first, second = models
    if stated.says_something and all(model.preprocess is not None for model in models):
        raise UsageError(
            f"{first.path} and {second.path} both carry their preprocessing: leave --image-size, "
            "--mean, --std, --interpolation, --crop-pct, --resize-mode and --crop-rule out"
        )
    if alone.says_something and second.preprocess is not None:
        raise UsageError(
            f"{second.path} carries its preprocessing: leave --quant-mean and the other --quant- options of "
            "preprocessing out"
        )
    if stated.says_something:
        first = _with_stated(first, stated)
    if stated.says_something or alone.says_something:
        second = _with_stated(second, alone.over(stated), first.preprocess if alone.says_something else None)
    return first, second


def at_size(model: ModelFile, size: tuple[int, int] | None) -> ModelFile:
    """The model, fixed to a size (height, width) where its file leaves that open.

    Raises:
        ModelError: the file fixes another one.
    """
    if size is None or model.size == size:
        return model
    if model.size is not None:
        raise ModelError(f"{model.path} takes {model.size} pixels, not {size}: leave --image-size out")
    return dataclasses.replace(model, size=size)


def _with_stated(model: ModelFile, stated: StatedPreprocess, like: PreprocessSpec | None = None) -> ModelFile:
    """With what is stated, and for the rest as `like`."""
    if model.preprocess is not None:
        return model
    model = at_size(model, stated.image_size)
    if model.size is None and like is not None:
        model = at_size(model, (like.height, like.width))
    if model.size is None:
        raise ModelError(f"{model.path} leaves its image size open: state it with --image-size")
    if model.form is InputForm.PIXELS:  # normalised inside, if at all
        stated = dataclasses.replace(stated, mean=stated.mean or (0.0,) * 3, std=stated.std or (1.0,) * 3)
    try:
        made = stated.complete(model.size) if like is None else stated.replacing(like, model.size)
        return dataclasses.replace(model, preprocess=made)
    except ValueError as error:
        raise ModelError(f"{model.path} does not say how its images are preprocessed: pass {error}") from None
