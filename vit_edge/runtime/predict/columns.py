"""Classification as engines for many machines want it: a class that is cheap to make and takes columns."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ImageError, UsageError
from vit_edge.manifest import Role
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding, decoding_of
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.predict.classifier import Classifier

Columns = dict[str, npt.NDArray[Any]]

LABEL, SCORE, INDEX, ERROR = "label", "score", "index", "error"  # what is added


class Frame(Protocol):
    """The part of a pandas DataFrame that is used."""

    def __getitem__(self, name: str) -> Any:
        """One column."""
        ...

    def assign(self, **columns: Any) -> Self:
        """The same with further columns."""
        ...


F = TypeVar("F", bound=Frame)


class BatchClassifier:
    """A classifier of columns, to be used as it is by Ray Data, Spark, Daft and others of their kind.

    To make one costs nothing: the model is loaded at the first call, in the process that calls, and is never
    pickled. Each image is run alone, so that its row does not depend on which others are in its batch.

    Example:
        >>> data.map_batches(BatchClassifier, fn_constructor_args=("bundle/",))  # doctest: +SKIP
        >>> frame.mapInPandas(BatchClassifier("bundle/").over, schema)           # doctest: +SKIP
        >>> daft.func.batch(return_dtype=answer)(BatchClassifier("bundle/").rows)  # doctest: +SKIP

    Args:
        path: a bundle folder or an ONNX file, to be found on every machine.
        column: that holds the images: paths, bytes of files, or uint8 RGB arrays (H, W, 3).
        threads: within one operator; one suits many processes on a machine.
        model: which file of a bundle, as for `Classifier`.
        decoding: as for `Classifier`.
        limits: as for `Classifier`.
        provider: as for `Classifier`.

    Raises:
        UsageError: decoding is no way to decode.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        column: str = "image",
        threads: int | None = 1,
        model: Role | str | None = None,
        decoding: Decoding | str = Decoding.FAST,
        limits: DecodeLimits = DEFAULT_LIMITS,
        provider: str = "auto",
    ) -> None:
        self._column = column
        self._arguments = (Path(path), provider, threads, decoding_of(decoding), model, limits)
        self._classifier: Classifier | None = None

    def __getstate__(self) -> dict[str, object]:
        """What another process needs: no model."""
        return self.__dict__ | {"_classifier": None}

    def __call__(self, batch: Mapping[str, Any] | F) -> Columns | F:
        """Add the answers to a batch.

        Args:
            batch: columns of one length by their names, or a pandas DataFrame.

        Returns:
            The same with `label` (str), `score` (float64), `index` (int64) of the likeliest class and
            `error` (str); of an image that is refused the first is empty, the others are NaN and -1, and
            `error` says why. A DataFrame for a DataFrame, else columns.

        Raises:
            UsageError: the batch has no such column, or one of the names that are added.
            VitEdgeError: as `Classifier`, at the first call.
        """
        columns = list(batch.columns) if hasattr(batch, "assign") else list(batch)  # type: ignore[union-attr]
        if self._column not in columns:
            raise UsageError(
                f"the batch has no column {self._column!r}; it has {', '.join(map(str, columns))}"
            )
        taken = [name for name in (LABEL, SCORE, INDEX, ERROR) if name in columns]
        if taken:
            raise UsageError(f"the batch has a column {taken[0]!r} already; rename it")
        answers = self._answers([_source(each) for each in batch[self._column]])
        if isinstance(batch, Mapping):
            return {name: np.asarray(values) for name, values in batch.items()} | answers
        return batch.assign(**answers)

    def over(self, batches: Iterable[F]) -> Iterator[F]:
        """Add the answers to each DataFrame of many, as Spark's `mapInPandas` wants it."""
        for batch in batches:
            made = self(batch)
            yield made  # type: ignore[misc]

    def rows(self, images: Iterable[Any]) -> list[dict[str, object]]:
        """The answers alone, one by one, as Daft's batch functions give structs.

        Args:
            images: cells as of the column.

        Returns:
            For each image what a batch is given as columns, by the same names.

        Raises:
            VitEdgeError: as `Classifier`, at the first call.
        """
        made = self._answers([_source(each) for each in images])
        values = zip(*(column.tolist() for column in made.values()), strict=True)
        return [dict(zip(made, row, strict=True)) for row in values]

    def _answers(self, sources: Sequence[ImageSource]) -> Columns:
        if self._classifier is None:
            self._classifier = Classifier(*self._arguments)
        found = list(self._classifier.batch(sources, batch_size=1, top_k=1))
        best = [None if isinstance(each, ImageError) else each[0] for each in found]
        return {
            LABEL: np.array([each.label if each else "" for each in best], dtype=object),
            SCORE: np.array([each.score if each else np.nan for each in best], dtype=np.float64),
            INDEX: np.array([each.index if each else -1 for each in best], dtype=np.int64),
            ERROR: np.array([str(e) if isinstance(e, ImageError) else "" for e in found], dtype=object),
        }


def _source(value: Any) -> ImageSource:
    """A cell as `Classifier` takes it: engines hand numpy's strings and bytes around."""
    if isinstance(value, np.str_ | np.bytes_):
        return value.item()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value  # type: ignore[no-any-return]
