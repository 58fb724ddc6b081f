"""Model files of other makers say nothing about their images; what the user states takes its place."""

import dataclasses

from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import InputForm
from vit_edge.stated import StatedPreprocess


def with_stated(models: tuple[ModelFile, ModelFile], stated: StatedPreprocess) -> tuple[ModelFile, ModelFile]:
    """Both models, those that carry no preprocessing with what is stated.

    Raises:
        UsageError: something is stated, but both models carry their own.
        ModelError: what is stated does not complete a recipe, or does not fit the model's input.
    """
    if not stated.says_something:
        return models
    if all(model.preprocess is not None for model in models):
        raise UsageError(
            f"{models[0].path} and {models[1].path} both carry their preprocessing: leave --image-size, "
            "--mean, --std, --interpolation, --crop-pct, --resize-mode and --crop-rule out"
        )
    return _with_stated(models[0], stated), _with_stated(models[1], stated)


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


def _with_stated(model: ModelFile, stated: StatedPreprocess) -> ModelFile:
    if model.preprocess is not None:
        return model
    model = at_size(model, stated.image_size)
    if model.size is None:
        raise ModelError(f"{model.path} leaves its image size open: state it with --image-size")
    if model.form is InputForm.PIXELS:  # normalised inside, if at all
        stated = dataclasses.replace(stated, mean=stated.mean or (0.0,) * 3, std=stated.std or (1.0,) * 3)
    try:
        return dataclasses.replace(model, preprocess=stated.complete(model.size))
    except ValueError as error:
        lacking = str(error).replace("_", "-").replace(", ", ", --").replace(" or ", " or --")
        raise ModelError(
            f"{model.path} does not say how its images are preprocessed: pass --{lacking}"
        ) from None
