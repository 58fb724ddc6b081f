"""A loaded model: uint8 pixels in, float32 logits out, on the provider that was asked for."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.image.preprocess import normalize, require_pixels
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.maps import what_is_given
from vit_edge.runtime.session.placement import (
    DEFAULT_SETTINGS,
    MOST_THREADS,
    Placement,
    SessionSettings,
    open_session,
)
from vit_edge.runtime.session.providers import AUTO, cause
from vit_edge.spec import InputForm, PreprocessSpec

__all__ = ["DEFAULT_SETTINGS", "MOST_THREADS", "Placement", "Session", "SessionSettings"]


class Session:
    """A model loaded into onnxruntime, from the checked bytes and never from the path.

    Args:
        model: from `read_model`.
        settings: provider, threads and session options.

    Raises:
        ModelError: onnxruntime refuses the model, or the model takes normalised input and does not say how.
        ProviderError: the requested provider is not installed, or did not take the session.
    """

    def __init__(self, model: ModelFile, settings: SessionSettings = DEFAULT_SETTINGS) -> None:
        if model.form is InputForm.PIXEL_VALUES and model.preprocess is None:
            raise ModelError(
                f"{model.path} takes normalised pixels but does not say how (it has no vit_edge.preprocess "
                "metadata); export it with vit-edge or set ModelFile.preprocess"
            )
        if settings.threads == AUTO:
            from vit_edge.runtime.measure.threads import (
                tuned,  # it measures sessions, so it imports this module
            )

            settings = tuned(model, settings)
        self.model = model.loaded()
        self.settings = settings  # with the number of threads that auto found
        self._shapes = model.outputs
        self._answers_as = model.output.output_name
        own = bool(model.maps or model.features)  # names of their own; one of several maps may be "logits"
        answers = {} if own else {self._answers_as: model.scores}
        self._names = [answers.get(name, name) for name in model.outputs]
        self._process = os.getpid()
        opened = open_session(model, settings)
        self._session, self.placement = opened.session, opened.placement

    @property
    def threads(self) -> int | None:
        """Threads within one operator, also where `auto` found the number; None: left to onnxruntime."""
        return self.settings.threads if isinstance(self.settings.threads, int) else None

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of a batch of any size, or embeddings; a model of fixed batch size is fed in chunks.

        Args:
            pixels: uint8 (N, H, W, 3), RGB, resized and cropped to the model's size.

        Returns:
            float32 (N, C).

        Raises:
            UsageError: the pixels have another dtype or shape.
            ModelError: the model is an embedder or one of maps; else as in `outputs`.
        """
        if self.model.maps:
            given, _ = what_is_given(self.model.maps)
            raise ModelError(f"{self.model.path} gives {given} and no logits of the image; take its outputs")
        if self.model.features is not None:
            raise ModelError(f"{self.model.path} is an embedder and gives no logits; use vit_edge.Embedder")
        return self.outputs(pixels)[self._answers_as]

    def outputs(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Every output of `ModelFile.outputs`, of a batch of any size.

        Args:
            pixels: as for `run`.

        Returns:
            Name -> float32 (N, ...).

        Raises:
            UsageError: the pixels have another dtype or shape, or the process forked after loading the model.
            ModelError: onnxruntime fails, or gives values of another shape or that are not finite.
        """
        if os.getpid() != self._process:  # onnxruntime's threads stayed behind, so a run might never end
            raise UsageError(
                f"{self.model.path} was loaded before this process was forked; load it in the child, "
                "or start processes with the spawn method"
            )
        require_pixels(pixels)
        if self.model.size is not None and pixels.shape[1:3] != self.model.size:
            raise UsageError(f"{self.model.path} takes {self.model.size} pixels, got {pixels.shape[1:3]}")
        if len(pixels) == 0:
            return {
                name: np.empty((0, *(size or 0 for size in shape)), np.float32)
                for name, shape in self._shapes.items()
            }
        if self.model.batch in (None, len(pixels)):
            return self._run_chunk(pixels)
        chunks = [(self._run_chunk(chunk), count) for chunk, count in _chunks(pixels, self.model.batch)]
        return {name: np.concatenate([made[name][:count] for made, count in chunks]) for name in self._shapes}

    def end_trace(self) -> Path:
        """Close the profile that `SessionSettings.trace` asked for; runs after this are not recorded.

        Returns:
            The file: JSON, a list of Chrome trace events.
        """
        return Path(self._session.end_profiling())

    def run_feed(self, feed: dict[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
        """Logits of images as the file takes them, made in another way than it states: for experiments.

        Args:
            feed: the input's name -> (N, ...), see `feed_of`; N is the model's batch where that is fixed.

        Returns:
            float32 (N, C).

        Raises:
            ModelError: as in `outputs`.
        """
        (images,) = feed.values()
        return self._answers(feed, len(images))[self._answers_as]

    def inner(self, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Further outputs of the file, by the names that it gives them.

        Args:
            pixels: uint8 (N, H, W, 3), as for `run`, of no more images than a fixed batch holds.
            names: of outputs.

        Returns:
            Of each output its first N rows, float32.

        Raises:
            UsageError: the pixels have another dtype or shape.
            ModelError: onnxruntime fails, as where the file has no such output.
        """
        require_pixels(pixels)
        missing = max(0, (self.model.batch or 0) - len(pixels))
        padded = np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
        try:
            made = self._session.run(list(names), feed_of(self.model, padded, self.model.preprocess))
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"{self.model.path} fails in onnxruntime ({cause(error)})") from error
        return [np.asarray(values, np.float32)[: len(pixels)] for values in made]

    def _run_chunk(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        return self._answers(feed_of(self.model, pixels, self.model.preprocess), len(pixels))

    def _answers(
        self, feed: dict[str, npt.NDArray[np.generic]], count: int
    ) -> dict[str, npt.NDArray[np.float32]]:
        try:
            made = self._session.run(self._names, feed)
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"{self.model.path} fails in onnxruntime ({cause(error)})") from error
        # float16 in files of other makers
        named = {
            name: np.asarray(values, np.float32) for name, values in zip(self._shapes, made, strict=True)
        }
        for name, values in named.items():
            if values.ndim != 1 + len(self._shapes[name]) or len(values) != count:
                raise ModelError(f"{self.model.path} gives {name} of shape {values.shape} for {count} images")
            if not _all_finite(values):
                raise ModelError(
                    f"{self.model.path} gives {name} that are not finite; "
                    "check the export with vit-edge compare"
                )
        return named


def feed_of(
    model: ModelFile, pixels: npt.NDArray[np.uint8], spec: PreprocessSpec | None
) -> dict[str, npt.NDArray[np.generic]]:
    """Pixels uint8 (N, H, W, 3) as a file takes them, under the name that it gives them.

    Args:
        model: from `read_model`.
        pixels: resized and cropped.
        spec: how they are normalised, where the file does not take them as they are.
    """
    feed: npt.NDArray[np.generic] = pixels
    if model.form is InputForm.PIXEL_VALUES:
        assert spec is not None  # noqa: S101  the constructor of Session has refused this
        feed = normalize(pixels, spec)
    if model.image is None:
        return {model.form.value: np.ascontiguousarray(feed)}
    if model.image.half:
        feed = feed.astype(np.float16)
    if not model.image.usual:
        feed = feed.transpose((0, 2, 3, 1) if model.image.channels_last else (0, 3, 1, 2))
    return {model.image.name: np.ascontiguousarray(feed)}


def _all_finite(values: npt.NDArray[np.float32]) -> bool:
    # A sum of squares is finite only if all values are, and takes half the time; of huge ones it overflows.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def _chunks(pixels: npt.NDArray[np.uint8], batch: int) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    """(chunk of the model's batch size, how many rows of it are real)."""
    for start in range(0, len(pixels), batch):
        chunk = pixels[start : start + batch]
        missing = batch - len(chunk)
        # Repeating a real image keeps the range of the batch, should the model quantize dynamically.
        padding = np.repeat(chunk[-1:], missing, axis=0)
        yield (np.concatenate([chunk, padding]) if missing else chunk), len(chunk)
