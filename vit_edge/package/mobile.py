"""Models in onnxruntime's own format, for builds of it that hold only the operators of these models.

https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html
"""

import dataclasses
import hashlib
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import onnxruntime

from vit_edge.errors import ModelError
from vit_edge.package.contents import Contents, PackedModel

OPERATORS = "required_operators.config"

# As onnxruntime's converter has them for phones: nothing is laid out for one kind of CPU, and activations may
# stay signed, which ARM multiplies faster.
_NOT_APPLIED = ("NchwcTransformer",)
_ENTRIES = {"session.save_model_format": "ORT", "session.qdqisint8allowed": "1"}
_LOG_ERRORS = 3


def for_phones(contents: Contents) -> Contents:
    """The same with model files of onnxruntime's own format, "fixed" style: optimised now, not on the phone.

    Raises:
        ModelError: onnxruntime does not convert a file.
    """
    models = tuple(map(_converted, contents.models))
    paths = {old.path: new.path for old, new in zip(contents.models, models, strict=True)}
    cases = tuple(dataclasses.replace(case, model=paths[case.model]) for case in contents.cases)
    wanted = {name for case in cases for name in (case.input_file, case.output_file)}
    wanted |= {name for each in contents.vectors for name in (each.file, each.expected)}
    files = {name: data for name, data in contents.files.items() if name in wanted}
    files |= {each.path: each.model.data for each in models}
    return dataclasses.replace(contents, models=models, cases=cases, files=files)


def required_operators(models: Mapping[str, bytes]) -> str:
    """What a reduced build of onnxruntime must hold, as its `--include_ops_by_config` reads it.

    Args:
        models: files of its own format by their names.
    """
    from onnxruntime.tools.ort_format_model import create_config_from_models  # reads the format's schema

    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / f"{index}.ort" for index in range(len(models))]
        for path, data in zip(paths, models.values(), strict=True):
            path.write_bytes(data)
        made = Path(place) / OPERATORS
        logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)  # it tells where it wrote
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves closing its files to Python
            create_config_from_models(paths, made, enable_type_reduction=False)
        lines = [line for line in made.read_text().splitlines() if not line.startswith("#")]
    return "\n".join([f"# of {', '.join(models)}", *lines]) + "\n"


def _converted(packed: PackedModel) -> PackedModel:
    data = _to_ort(packed.path, packed.model.data, packed.model.session_options)
    model = dataclasses.replace(packed.model, data=data, sha256=hashlib.sha256(data).hexdigest())
    return dataclasses.replace(packed, path=str(PurePosixPath(packed.path).with_suffix(".ort")), model=model)


def _to_ort(name: str, data: bytes, entries: Sequence[tuple[str, str]]) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "model.ort"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS
        options.optimized_model_filepath = str(made)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        for key, value in (dict(entries) | _ENTRIES).items():
            options.add_session_config_entry(key, value)
        try:
            onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(_NOT_APPLIED)
            )
            return made.read_bytes()
        except Exception as error:  # onnxruntime's exceptions share no base
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"{name} cannot be made onnxruntime's own format ({said[0]})") from error
