"""Manifests of bundles."""

import json


def manifest() -> dict[str, object]:
    """A good one, of a bundle with one model."""
    entry = {"sha256": "0" * 64, "size": 1, "role": "float"}
    preprocess = {
        "height": 8,
        "width": 8,
        "resize_mode": "none",
        "resize": [8, 8],
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    return {
        "files": {"onnx/model.onnx": entry},
        "default_model": "onnx/model.onnx",
        "preprocess": preprocess,
        "source": {"name": "example", "sha256": "0" * 64},
        "tools": {},
        "quantization": None,
        "layers": [],
        "accuracy": None,
        "latency": [],
        "providers": {},
        "format_version": 1,
    }


def text(**changes: object) -> bytes:
    return json.dumps(manifest() | changes, indent=1).encode()


def manifests() -> dict[str, bytes]:
    good = text()
    entry = {"sha256": "0" * 64, "size": 1, "role": "float"}
    digits = b"9" * 400
    return {
        "good.json": good,
        "from_the_future.json": text(format_version=2),
        "from_the_far_future.json": text(format_version=10**4000, anything={"new": True}),
        "path_up.json": text(files={"../../../etc/passwd": entry}),
        "path_absolute.json": text(files={"/etc/passwd": entry}),
        "path_of_another_system.json": text(files={"C:\\windows\\win.ini": entry}),
        "path_with_a_null.json": text(files={"onnx/\0model.onnx": entry}),
        "path_of_a_megabyte.json": text(files={"a" * 2**14: entry}),
        "manifest_lists_itself.json": text(files={"vit_edge.json": entry}),
        "number_beyond_a_float.json": text(providers={"CPUExecutionProvider": 0}).replace(
            b": 0\n", b": " + digits + b"\n"
        ),
        "mean_beyond_a_float.json": good.replace(b"0.5", digits, 1),
        "number_of_5000_digits.json": good.replace(
            b'"format_version": 1', b'"format_version": ' + b"9" * 5000
        ),
        "infinity.json": good.replace(b'"accuracy": null', b'"accuracy": Infinity'),
        "infinity_by_exponent.json": good.replace(
            b'"accuracy": null', b'"accuracy": {"verdict": "PASS", "n": 1e999}'
        ),
        "not_a_number.json": good.replace(b'"accuracy": null', b'"accuracy": NaN'),
        "key_twice.json": good.replace(b'"tools": {}', b'"tools": {}, "tools": {}'),
        "nested_20000_deep.json": b"[" * 20_000,
        "nested_500_deep.json": good.replace(b'"layers": []', b'"layers": ' + b"[" * 500 + b"]" * 500),
        "nested_in_recipe.json": good.replace(
            b'"quantization": null', b'"quantization": ' + b'{"a":' * 100 + b"1" + b"}" * 100
        ),
        "half_a_character.json": text(default_model="\ud800"),
        "byte_order_mark.json": b"\xef\xbb\xbf" + good,
        "utf_16.json": good.decode().encode("utf-16"),
        "text_after_the_end.json": good + b"{}",
        "list.json": b"[]",
        "nothing.json": b"",
        "files_as_text.json": text(files="onnx/model.onnx"),
        "size_as_text.json": text(files={"onnx/model.onnx": entry | {"size": "1"}}),
        "size_of_exabytes.json": text(files={"onnx/model.onnx": entry | {"size": 2**60}}),
        "role_as_list.json": text(files={"onnx/model.onnx": entry | {"role": ["float"]}}),
        "accuracy_of_a_verdict_alone.json": text(accuracy={"verdict": {}}),
        "interpolation_as_list.json": good.replace(b'"bicubic"', b"[]"),
        "deviation_of_zero.json": text(preprocess={**_preprocess(), "std": [0, 1, 1]}),
        "picture_of_gigapixels.json": text(preprocess={**_preprocess(), "height": 10**6, "width": 10**6}),
        "true_for_a_number.json": text(preprocess={**_preprocess(), "height": True}),
    }


def _preprocess() -> dict[str, object]:
    raw = manifest()["preprocess"]
    assert isinstance(raw, dict)  # noqa: S101  as written above
    return raw
