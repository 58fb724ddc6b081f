"""What a model gives: the names of its outputs, and what its numbers mean."""

import enum
import re

# The names of a model file's outputs: one of a classifier or an embedding model, two or three of an embedder.
LOGITS = "logits"  # float32 (N, C)
EMBEDDING = "embedding"  # float32 (N, D), all that the model gives
CLS_EMBEDDING = "cls_embedding"  # float32 (N, D), where a class token stands for the whole image
POOLED_EMBEDDING = "pooled_embedding"  # float32 (N, D)
PATCH_FEATURES = "patch_features"  # float32 (N, rows, columns, D)
TAP = "tap_"  # and the number of a block from 0: float32 (N, rows, columns, D), the patches as they leave it

# What users call the outputs of an embedder, beside those of taps.
EMBEDDER_OUTPUTS = {"cls": CLS_EMBEDDING, "pooled": POOLED_EMBEDDING, "patches": PATCH_FEATURES}


def tap_name(block: int) -> str:
    """The output of a block's patches."""
    return f"{TAP}{block}"


def tap_of(name: str) -> int | None:
    """The block whose patches an output of that name holds; None of any other name."""
    return int(name.removeprefix(TAP)) if re.fullmatch(rf"{TAP}(0|[1-9]\d{{0,3}})", name) else None


class OutputKind(enum.Enum):
    """What the numbers mean that a model gives for an image; the value is kept in metadata and manifest.

    Files that we write hold logits: a final Softmax or Sigmoid is taken off, and the kind says how it is made
    good. Probabilities come from files of other makers.
    """

    SINGLE_LABEL = "single_label_logits"  # one of C classes, by softmax
    SINGLE_LABEL_PROBABILITIES = "single_label_probabilities"  # the same behind its softmax
    MULTI_LABEL = "multi_label_logits"  # each of C labels or not, by sigmoid
    MULTI_LABEL_PROBABILITIES = "multi_label_probabilities"  # the same behind its sigmoid
    BINARY = "binary_logit"  # one number z, by sigmoid: the same answers as two classes of logits 0 and z
    BINARY_PROBABILITY = "binary_probability"  # the same behind its sigmoid
    REGRESSION = "regression"  # the values themselves
    EMBEDDING = "embedding"  # one vector (D,), to be compared with others by cosine
    UNIT_EMBEDDING = "unit_embedding"  # the same of length 1
    MAP = "map"  # a number for every place: (channels, rows, columns), behind whatever the graph ends in

    @property
    def logits(self) -> "OutputKind":
        """The kind of the numbers before a final Softmax or Sigmoid; itself where there is none."""
        return _BEFORE_ACTIVATION.get(self, self)

    @property
    def task(self) -> "OutputKind":
        """SINGLE_LABEL, MULTI_LABEL, REGRESSION, EMBEDDING or MAP: one logit asks what two classes ask."""
        return _TASKS.get(self.logits, self.logits)

    @property
    def ends_as_is(self) -> bool:
        """Whether a final Softmax or Sigmoid belongs to the numbers and is not taken off."""
        return self.task in (OutputKind.REGRESSION, OutputKind.EMBEDDING)

    @property
    def output_name(self) -> str:
        """What files of ours call the one row of numbers of an image."""
        return EMBEDDING if self.task is OutputKind.EMBEDDING else LOGITS

    def answers(self, values: int) -> int:
        """How many labels belong to so many numbers per image."""
        return 2 if self.logits is OutputKind.BINARY else values


_BEFORE_ACTIVATION = {
    OutputKind.SINGLE_LABEL_PROBABILITIES: OutputKind.SINGLE_LABEL,
    OutputKind.MULTI_LABEL_PROBABILITIES: OutputKind.MULTI_LABEL,
    OutputKind.BINARY_PROBABILITY: OutputKind.BINARY,
}

_TASKS = {
    OutputKind.BINARY: OutputKind.SINGLE_LABEL,
    OutputKind.UNIT_EMBEDDING: OutputKind.EMBEDDING,
}
