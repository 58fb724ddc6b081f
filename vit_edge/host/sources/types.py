"""What goes into `resolve` and what comes out."""

import dataclasses
import enum
import re
from pathlib import Path
from typing import Any

from torch import nn

from vit_edge.errors import UsageError
from vit_edge.fields import settle_members
from vit_edge.host.vit import VitConfig
from vit_edge.spec import CropRule, Interpolation, OutputKind, PreprocessSpec, ResizeMode
from vit_edge.stated import UNSTATED, StatedPreprocess
from vit_edge.stated import Triple as Triple

TEMPLATE = "a photo of a {}"  # Radford et al. 2021, section 3.1.4


class SourceKind(enum.Enum):
    """Where a model comes from."""

    HUGGINGFACE = "huggingface"  # a folder, or an id found in the local cache
    CHECKPOINT = "checkpoint"  # weights whose architecture is named
    ONNX = "onnx"
    CALLABLE = "callable"  # the user's own code


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """What the user states beside the source; whatever is set wins over what the source says.

    `crop_pct` and `resize_mode` describe the geometry together: if either is given, the source's geometry is
    dropped. The image is resized to floor(size / crop_pct), crop_pct being 1 if only the mode is given, so
    that it just covers that unless the mode says otherwise, and the centre is cropped, as timm evaluates.

    Raises:
        UsageError: a value that cannot be honoured.
    """

    arch: str | None = None  # a name of ARCHS, for bare weights
    image_size: tuple[int, int] | None = None  # pixels (height, width)
    mean: Triple | None = None  # RGB, of values in [0, 1]
    std: Triple | None = None
    interpolation: Interpolation | None = None
    crop_pct: float | None = None  # share of the resized image's side that the crop keeps
    resize_mode: ResizeMode | None = None
    crop_rule: CropRule | None = None  # how an odd margin is halved
    labels: Path | None = None  # one name per line, or a JSON list, or a JSON object from index to name
    weights: str | None = None  # which set of a checkpoint that holds several, such as model_ema
    output: str | None = None  # of an ONNX file with several outputs, the one that holds the answers
    output_kind: OutputKind | None = None  # what the answers mean, before any final Softmax or Sigmoid
    allow_pickle: bool = False  # run the code inside a .pth file
    trust_code: bool = False  # import the module of module:callable
    labels_text: Path | None = None  # names of classes, as `labels`, that a text tower is to be asked for
    template: str | None = None  # the text of a class, {} standing for its name; None: TEMPLATE

    def __post_init__(self) -> None:
        """Refuse values that no image can have."""
        try:
            settle_members(self)
        except ValueError as error:
            raise UsageError(str(error)) from None
        _ = self.stated
        if self.template is not None and self.labels_text is None:
            raise UsageError("--template goes with --labels-text, which names the classes: add it")
        if re.fullmatch(r"[^{}]*\{\}[^{}]*", TEMPLATE if self.template is None else self.template) is None:
            raise UsageError(f"--template {self.template!r} must have one {{}}, where the class name goes")
        if self.output_kind is not None and self.output_kind is not self.output_kind.logits:
            raise UsageError(
                f"output_kind must be that of logits, {self.output_kind.logits.value}: a final activation is "
                "found in the graph"
            )

    @property
    def stated(self) -> StatedPreprocess:
        """The part about preprocessing."""
        names = (field.name for field in dataclasses.fields(StatedPreprocess))
        return StatedPreprocess(**{name: getattr(self, name) for name in names})

    @property
    def changes_preprocessing(self) -> bool:
        """Whether anything the source says about preprocessing is replaced."""
        return self.stated.says_something


class Library(enum.Enum):
    """What runs a source as its author does."""

    TRANSFORMERS = "transformers"
    TIMM = "timm"
    TORCHVISION = "torchvision"
    OPEN_CLIP = "open_clip"
    ONNXRUNTIME = "onnxruntime"  # an ONNX file beside the image processor of transformers


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The classes of a model that compares images with texts."""

    labels: tuple[str, ...]
    template: str  # with one {} where a label goes

    @property
    def texts(self) -> tuple[str, ...]:
        """One for each label."""
        return tuple(self.template.replace("{}", label) for label in self.labels)


@dataclasses.dataclass(frozen=True)
class OwnPipeline:
    """How a source answers without us, from an image file on.

    What the user states in place of the source's own word is stated to its library, too.
    """

    library: Library
    path: Path  # the folder, or the file of weights
    arch: str = ""  # the library's name, with its tag where that is stated
    base: Path | None = None  # of an adapter in `path`, the folder of its base model
    stated: StatedPreprocess = UNSTATED  # in place of what it says of its preprocessing
    no_recipe: bool = False  # it says nothing of it, so all of it is stated
    states_kind: bool = False  # what its numbers mean is stated
    names_classes: bool = True  # the labels are its own
    prompts: Prompts | None = None  # that it is asked for, where its classes are texts
    tower: str | None = None  # the class of transformers, where it gives embeddings
    headless: bool = False  # of timm: what it pools is the answer


@dataclasses.dataclass(frozen=True)
class Apart:
    """A family of models, for a refusal in its words."""

    family: str  # as its paper calls it
    what: str  # that it has and no rewrite rule knows; empty where that is nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A resolved model: exactly one of `module` and `onnx_path` is set.

    The module is in eval mode: normalised pixel_values float32 (N, 3, H, W) to logits float32 (N, C).
    """

    name: str  # without any path
    kind: SourceKind
    module: nn.Module | None
    onnx_path: Path | None
    config: VitConfig | None  # None for an ONNX file and for own code that is no VisionTransformer
    labels: tuple[str, ...]  # one per class, in index order
    labels_note: str  # empty, or why the labels are placeholders
    preprocess: PreprocessSpec
    sha256: str  # of the weights file; for own code, of its state dict as safetensors
    huggingface_config: dict[str, Any]  # for a bundle's config.json
    preprocessor_config: dict[str, Any]  # for a bundle's preprocessor_config.json
    decided: tuple[str, ...] = ()  # what the source leaves open and was settled here, a sentence each
    own_pipeline: OwnPipeline | None = None

    output: OutputKind = OutputKind.SINGLE_LABEL  # what the model's numbers mean, never probabilities
    output_name: str | None = None  # of an ONNX file, what it calls them
    values: int | None = None  # numbers per image, where no config says so
    apart: Apart | None = None  # the family, where it is none of those that `config` describes

    @property
    def numbers(self) -> int:
        """How many numbers the model gives for an image."""
        if self.values is not None:
            return self.values
        return len(self.labels) if self.config is None else self.config.num_classes

    @property
    def notes(self) -> tuple[str, ...]:
        """All that was assumed, labels included."""
        return (*([self.labels_note] if self.labels_note else []), *self.decided)
