"""From an image to its embeddings in one call: the backbone under a detector, a segmenter or a search."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vit_edge.arrays import Pixels
from vit_edge.bundle import Bundle, Role, is_bundle, read_bundle
from vit_edge.errors import BundleError, ImageError, ModelError
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.predict.batching import in_batches
from vit_edge.runtime.predict.image_model import ImageModel, key_file, opened_with, preprocess_of
from vit_edge.spec import (
    CLS_EMBEDDING,
    EMBEDDER_OUTPUTS,
    EMBEDDING,
    PATCH_FEATURES,
    POOLED_EMBEDDING,
    OutputKind,
    tap_name,
    tap_of,
)

Floats = npt.NDArray[np.float32]

KINDS = tuple(EMBEDDER_OUTPUTS)  # beside those of taps


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """What the model makes of one image, before any classification; float32.

    A model without a classifier, such as CLIP's image tower, gives one vector, which is `pooled` here, and
    nothing else. Of others all three come from the last layer and behind the final LayerNormalization, where
    the model normalises its tokens. A model that normalises the mean of its tokens (`fc_norm` of timm) gives
    patches as they leave the last layer, and their normalised mean.
    """

    cls: Floats | None  # (D,), the class token; None where the model's head does not read one by itself
    pooled: Floats  # (D,), the mean of the patch tokens; of an embedding model its own vector
    patches: Floats  # (rows, columns, D), one token per patch, from the top left; (0, 0, D) of one vector
    taps: Mapping[int, Floats] = dataclasses.field(default_factory=dict)
    """By the number of a block, from 0: (rows, columns, D), the patches as they leave it; only with taps."""

    def of(self, kind: str) -> Floats:
        """What `Embedder.kinds` calls so: cls, pooled, patches, or tap_ with the number of a block.

        Raises:
            KeyError: the model has no such tap.
        """
        tap = tap_of(kind)
        if tap is not None:
            return self.taps[tap]
        found: Floats = getattr(self, kind)
        return found


class Embedder(ImageModel):
    """An image embedder from a bundle or an ONNX file; threads and processes share it as a `Classifier`.

    Example:
        >>> embed = Embedder("bundle/")             # doctest: +SKIP
        >>> embed("cat.jpg").patches.shape          # doctest: +SKIP
        (14, 14, 192)

    Args:
        path: a bundle folder of an embedding model or one that was built with embedders, or an ONNX file of
            either.
        provider: `auto` (or None), or the short name of an execution provider such as `openvino`.
        threads: threads within one operator; `auto` measures once what is fastest on this machine, None
            leaves it to onnxruntime.
        decoding: how images much larger than the model's input are brought down to it, as for `Classifier`.
        model: which embedder of a bundle: a role (`embedder`, `embedder_float`) or a path inside it; by
            default the one of the precision that the bundle runs with.
        limits: the formats of images that are taken and how large they may be, as for `Classifier`.
        trust: a public key whose owner must have signed the bundle, as for `Classifier`.

    Raises:
        ModelError: the model cannot be read or loaded, is no embedder, or does not say how images are
            preprocessed.
        BundleError: the bundle is malformed or has no embedder (IntegrityError: a file is not the recorded
            one; SignatureError: it is not what was signed).
        MissingExtraError: a signature is to be checked, and the library for that is not installed.
        ProviderError: the requested provider is not the one that would run.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str | None = "auto",
        threads: int | Literal["auto"] | None = None,
        decoding: Decoding | str = Decoding.FAST,
        model: Role | str | None = None,
        limits: DecodeLimits | None = DEFAULT_LIMITS,
        trust: str | os.PathLike[str] | None = None,
    ) -> None:
        key = key_file(trust)
        file = read_embedder(Path(path), model, key)
        preprocess_of(file)  # what is neither is refused for this first
        self._file = _embedding_file(file)
        super().__init__(file, opened_with(path, provider, threads, decoding, model, limits), key)

    @property
    def dim(self) -> int:
        """D, the length of every embedding."""
        features = self._file.features
        return (self._file.classes or 0) if features is None else features.dim

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns); (0, 0) of a model that gives one vector."""
        return (0, 0) if self._file.features is None else self._file.features.grid

    @property
    def has_cls(self) -> bool:
        """Whether there is a CLS embedding."""
        return self._file.features is not None and self._file.features.has_cls

    @property
    def kinds(self) -> tuple[str, ...]:
        """What an `Embedding` has of this model, see `Embedding.of`."""
        return tuple(outputs_by_kind(self._file))

    def __call__(self, source: ImageSource) -> Embedding:
        """Embed one image.

        Args:
            source: a path, the bytes of a file, a file object, a Pillow image, or uint8 RGB (H, W, 3).

        Raises:
            ImageError: the image cannot be decoded within the limits.
        """
        return self._embeddings([self._load(source)])[0]

    def batch(self, sources: Iterable[ImageSource], batch_size: int = 8) -> Iterator[Embedding | ImageError]:
        """Embed many images: the next are decoded by worker threads while the model runs.

        Of the sources, which may be endless, no more than two batches are held at a time. A batch goes
        through the model whole or in portions, whichever the first batches show to be faster.

        Yields:
            In the order of the sources, the embedding, or the ImageError of an image that is refused. What
            the sources themselves raise is raised after the answers to all before it.

        Raises:
            UsageError: batch_size below 1; raised at the call, not at the first item.
        """

        def run(pixels: list[Pixels]) -> list[Embedding]:
            return self._portions_of(batch_size).run(pixels, self._embeddings)

        return in_batches(sources, self._load, run, batch_size)

    def _embeddings(self, pixels: Sequence[Pixels]) -> list[Embedding]:
        """One per image of uint8 (H, W, 3)."""
        made = self._session.outputs(np.stack(pixels))
        # A view would keep the whole batch alive.
        rows = [{name: values[row].copy() for name, values in made.items()} for row in range(len(pixels))]
        if self._file.features is None:
            none = np.empty((*self.grid, self.dim), np.float32)
            return [Embedding(None, row[EMBEDDING], none) for row in rows]
        taps = self._file.features.taps
        return [
            Embedding(
                row.get(CLS_EMBEDDING),
                row[POOLED_EMBEDDING],
                row[PATCH_FEATURES],
                {tap: row[tap_name(tap)] for tap in taps},
            )
            for row in rows
        ]


def read_embedder(path: Path, model: Role | str | None, trust: Path | None) -> ModelFile:
    """Read an embedder of a bundle, by default the one of the precision that it runs with, or a file of one.

    Raises:
        BundleError, ModelError: as `Embedder`.
    """
    if path.is_dir() and is_bundle(path):
        model = _in_bundle(read_bundle(path), model)
    return read_model(path, model, trust=trust)


def _in_bundle(bundle: Bundle, model: Role | str | None) -> Role | str | None:
    """Which model of a bundle: the default one of an embedding model, else one of the embedders."""
    if isinstance(model, Role):
        return bundle.embedding_role(model)
    if model is not None or bundle.manifest.output.task is OutputKind.EMBEDDING:
        return model
    names = bundle.embedders()
    if not names:
        raise BundleError(f"{bundle.path} has no embedder; build it with --embedder")
    return names[0]


def _embedding_file(file: ModelFile) -> ModelFile:
    if not file.embeds:
        raise ModelError(
            f"{file.path} is a classifier, not an embedder; open it with vit_edge.Classifier, "
            "or make an embedder with: vit-edge export SOURCE --embedder"
        )
    return file


def outputs_by_kind(file: ModelFile) -> dict[str, str]:
    """By the fields of an `Embedding` that a model file gives, what it calls them."""
    if file.features is None:
        return {"pooled": EMBEDDING}
    taps = map(tap_name, file.features.taps)
    return {kind: name for kind, name in EMBEDDER_OUTPUTS.items() if name in file.outputs} | {
        tap: tap for tap in taps
    }


def without_kind(path: Path, kind: str, kinds: tuple[str, ...]) -> str:
    """The refusal of a kind of embedding that a model does not give, of the kinds that it gives."""
    named = {"cls": "CLS embedding", "pooled": "pooled embedding", "patches": "grid of patches"}
    given = f"kinds are {' and '.join(kinds)}" if len(kinds) > 1 else f"kind is {kinds[0]}"
    return f"{path} has no {named.get(kind, kind)}; its {given}"
