"""What a program in C knows of the model at compile time: a header, so that it has no JSON to read."""

from collections.abc import Iterable

from vit_edge.package.contents import ARITHMETICS, Contents, PackedModel
from vit_edge.spec import LOGITS, InputForm, OutputKind

_KINDS = {
    OutputKind.SINGLE_LABEL: "SOFTMAX",
    OutputKind.MULTI_LABEL: "SIGMOID",
    OutputKind.BINARY: "BINARY_LOGIT",
    OutputKind.BINARY_PROBABILITY: "BINARY_PROBABILITY",
    OutputKind.SINGLE_LABEL_PROBABILITIES: "PROBABILITIES",
    OutputKind.MULTI_LABEL_PROBABILITIES: "PROBABILITIES",
    OutputKind.REGRESSION: "VALUES",
}
_FLOAT_BYTES = 4

_HEADER = """\
/* Made by vit-edge from a bundle; make it again rather than edit it. */
#pragma once
#include "pixels.h"

enum {{ HEIGHT = {height}, WIDTH = {width}, CLASSES = {classes}, ARITHMETICS = {arithmetics} }};
enum kind {{ SOFTMAX, SIGMOID, BINARY_LOGIT, BINARY_PROBABILITY, PROBABILITIES, VALUES }};
static const enum kind KIND = {kind};
static const struct recipe RECIPE = {{{recipe}}};

struct model {{ const char *name, *file, *input, *output; int takes_bytes; const char *options[{options}]; }};
static const struct model MODELS[] = {{
{models}
}};
#define DEFAULT_MODEL {default}

/* A picture of RGB bytes, and what Pillow makes of it for the model. */
struct vector {{ const char *file, *expected; int width, height; }};
static const struct vector VECTORS[] = {{
{vectors}
}};

/* What MODELS[model] answered where it was built; arithmetic: {words}. */
struct recorded {{ int model, arithmetic; const char *input, *output; double tolerance; }};
static const struct recorded CASES[] = {{
{cases}
}};

{labels}
"""


def model_header(contents: Contents) -> str:
    """`model.h`, ASCII."""
    spec = contents.preprocess
    means = ", ".join(_number(255 * value) for value in spec.mean)
    deviations = ", ".join(_number(255 * value) for value in spec.std)
    recipe = (
        f"{spec.height}, {spec.width}, {_mode(spec.resize_mode.name)}, {spec.resize[0]}, {spec.resize[1]}, "
        f"{spec.interpolation.name}, {spec.crop.name}, {{{means}}}, {{{deviations}}}"
    )
    paths = [model.path for model in contents.models]
    return _HEADER.format(
        height=spec.height,
        width=spec.width,
        classes=len(contents.files[contents.cases[0].output_file]) // _FLOAT_BYTES,
        arithmetics=len(ARITHMETICS),
        words=", ".join(f"{index} {name}" for index, name in enumerate(ARITHMETICS)),
        kind=_KINDS[contents.output],
        recipe=recipe,
        options=2 * max(len(model.model.session_options) for model in contents.models) + 1,
        models=_lines(_model(model) for model in contents.models),
        default=text(contents.default),
        vectors=_lines(
            f"{{{text(each.file)}, {text(each.expected)}, {each.width}, {each.height}}}"
            for each in contents.vectors
        ),
        cases=_lines(
            f"{{{paths.index(each.model)}, {ARITHMETICS.index(each.arithmetic)}, {text(each.input_file)}, "
            f"{text(each.output_file)}, {each.tolerance!r}}}"
            for each in contents.cases
        ),
        labels=_labels(contents.labels),
    )


def text(value: str) -> str:
    """A string literal of C in ASCII: whatever else is written as its bytes in UTF-8."""
    plain = {code: chr(code) for code in range(32, 127) if chr(code) not in '"\\?'}
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in value.encode("utf-8")) + '"'


def _mode(name: str) -> str:
    return "RESIZE_NONE" if name == "NONE" else name


def _number(value: float) -> str:
    """A float of C; `f` alone would follow an integer."""
    return f"{value!r}f"


def _model(packed: PackedModel) -> str:
    options = [text(word) for pair in packed.model.session_options for word in pair]
    takes_bytes = int(packed.model.form is InputForm.PIXELS)
    words = [text(packed.name), text(packed.path), text(packed.model.form.value), text(LOGITS)]
    return f"{{{', '.join(words)}, {takes_bytes}, {{{', '.join([*options, '0'])}}}}}"


def _labels(labels: tuple[str, ...] | None) -> str:
    if labels is None:
        return "static const char *const *const LABELS = 0;"
    names = _lines(map(text, labels))
    pointer = "static const char *const *const LABELS = NAMES;"
    return f"static const char *const NAMES[] = {{\n{names}\n}};\n{pointer}"


def _lines(items: Iterable[str]) -> str:
    return ",\n".join(f"  {item}" for item in items)
