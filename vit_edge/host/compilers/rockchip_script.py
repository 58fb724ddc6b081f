"""What runs in the environment of RKNN-Toolkit2: quantizes, builds, reads the layer table back, simulates.

Usage: python rockchip_script.py JOB.json OUT

Started by `vit-edge build --compiler` and `python -m tools.check_rknn`; needs `rknn-toolkit2` alone, nothing
of vit-edge. A job names the float ONNX file, calibration images and images to answer (both `.npy`, as the
file takes them; of the latter there may be none), the platform, and one case: `algorithm`, a way of the
toolkit's own; or `ranges` of tensors and the `narrow` products, which are computed in 8 bits while all else
is in half precision. Into OUT go `model.rknn`, where there are images `logits.npy` and `answers` (one of each
image, not asked for again where a run broke off) and `case.json`: the layer table as the compiler printed it,
and which tensors got a range of ours.
"""

import hashlib
import json
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

WIDE = "float16"
_SUFFIXES = re.compile(r"(?:#\d+|_mm|_tp|_rs|_sw|-rs|_int8|_sdpa)+$")
_ROW = re.compile(
    r"D RKNN: \[[\d:.]+\] \d+\s+(?P<operator>\S+)\s+(?P<type>\S+)\s+(?P<target>CPU|NPU)"
    r"\s+(?P<given>\S+)\s+(?P<made>\S+)\s+\S+(?:\s+[\d.]+%)?\s+\S+\s+\S+?:(?P<name>\S+)"
)
_CLOSE = 0.05  # of the span: how far extremes of two runs of the same images may lie apart


def main() -> int:
    """Build what the job asks for."""
    from rknn.api import RKNN

    job, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    Path("images.txt").write_text("".join(f"{path}\n" for path in job["calibration"]))
    toolkit = RKNN(verbose=True)
    printed = Path("printed.txt")
    applied: list[str] = []
    with _Captured(printed):
        if "ranges" in job:
            first, toolkit = toolkit, RKNN(verbose=True)
            applied = _hybrid(first, toolkit, job)
        else:
            _loaded(toolkit, job, "normal" if job["algorithm"] == "auto_hybrid" else job["algorithm"])
            automatic = job["algorithm"] == "auto_hybrid"
            _must(toolkit.build(do_quantization=True, dataset="images.txt", auto_hybrid=automatic), "build")
        _must(toolkit.export_rknn("model.rknn"), "export_rknn")
        if job["images"]:
            _must(toolkit.init_runtime(), "init_runtime")
            logits = answers(toolkit, job, Path("answers") / key_of(job))
            np.save("logits.npy", np.concatenate(logits).astype(np.float32))
    found = {"layers": layer_table(printed.read_text(errors="replace")), "applied": applied}
    Path("case.json").write_text(json.dumps(found))
    return 0


def key_of(job: dict[str, Any]) -> str:
    """Names all that answers come from, but for the image: the toolkit, the file, and how it is quantized."""
    told = {name: value for name, value in job.items() if name not in ("model", "calibration", "images")}
    found = hashlib.sha256(json.dumps([version("rknn-toolkit2"), told], sort_keys=True).encode())
    for path in (job["model"], *job["calibration"]):
        found.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return found.hexdigest()


def answers(toolkit: Any, job: dict[str, Any], kept: Path) -> list[Any]:
    """The logits of each image; those that are kept in a folder are not asked for again."""
    kept.mkdir(parents=True, exist_ok=True)
    found = []
    for image in map(Path, job["images"]):
        path = kept / f"{hashlib.sha256(image.read_bytes()).hexdigest()}.npy"
        if not path.is_file():
            made = toolkit.inference(inputs=[np.load(image)], data_format=["nchw"])[0]
            np.save(kept / "unfinished.npy", made)
            (kept / "unfinished.npy").replace(path)
        found.append(np.load(path))
    return found


def _loaded(toolkit: Any, job: dict[str, Any], algorithm: str) -> None:
    config = toolkit.config(
        target_platform=job["platform"],
        quantized_dtype="w8a8",
        quantized_method="channel",
        quantized_algorithm=algorithm,
    )
    _must(config, "config")
    _must(toolkit.load_onnx(model=job["model"]), "load_onnx")


def _hybrid(toolkit: Any, fresh: Any, job: dict[str, Any]) -> list[str]:
    """Types and ranges of ours, written into the toolkit's own configuration between its two steps.

    Args:
        toolkit: for the first step.
        fresh: another, for the second.
        job: as the module says.

    Returns:
        The tensors that got a range of ours.
    """
    from ruamel.yaml import YAML

    _loaded(toolkit, job, "normal")
    _must(toolkit.hybrid_quantization_step1(dataset="images.txt", proposal=False), "step 1")
    stem = Path(job["model"]).stem
    graph = onnx.load(f"{stem}.model").graph
    config = Path(f"{stem}.quantization.cfg")
    settings = YAML(typ="safe").load(config)
    found = ranges_for(settings["quantize_parameters"], graph, job["ranges"])
    wide = wide_tensors(graph, set(job["narrow"]))
    config.write_text(edited(config.read_text(), found, wide))
    files = f"{stem}.model", f"{stem}.data", str(config)
    _must(fresh.hybrid_quantization_step2(*files), "step 2")
    return list(found)


def ranges_for(parameters: Any, graph: onnx.GraphProto, ranges: dict[str, Any]) -> dict[str, list[float]]:
    """Ranges of ours, [low, high], of the tensors of the fused graph that are some of the file's.

    A name is not enough, fusing moves names: the toolkit's own extremes on the same images must agree.
    """
    found = {}
    for name, entry in parameters.items():
        given = ranges.get(counterpart(name, graph, ranges))
        if given is None or len(entry["ori_min"]) != 1:
            continue
        span = given["high"] - given["low"]
        seen = float(entry["ori_min"][0]), float(entry["ori_max"][0])
        exact = min(given["low"], 0.0), max(given["high"], 0.0)
        if max(abs(a - b) for a, b in zip(seen, exact, strict=True)) > _CLOSE * span:
            continue
        found[name] = list(given["range"])
    return found


def edited(text: str, ranges: dict[str, list[float]], wide: dict[str, str]) -> str:
    """The toolkit's configuration with other ranges and types.

    It refuses one in which any other number is spelled otherwise, so the text is edited line by line.
    """
    lines, section = text.splitlines(), ""
    for index, line in enumerate(lines):
        if line.startswith("custom_quantize_layers:"):
            types = [f"    {json.dumps(name)}: {kind}" for name, kind in wide.items()]
            lines[index] = "\n".join(["custom_quantize_layers:", *types])
        elif line.startswith("    ") and not line.startswith("     ") and line.endswith(":"):
            section = line.strip().removesuffix(":").strip("'\"")
        elif section in ranges and line.strip() in ("min:", "max:"):
            value = ranges[section][line.strip() == "max:"]
            lines[index + 1] = f"        -   {value!r}"  # from which scale and zero point are made
    return "\n".join([*lines, ""])


def counterpart(name: str, graph: onnx.GraphProto, known: Any) -> str:
    """What the ONNX file calls a tensor of the fused graph."""
    if name in known:
        return name
    readers = [node for node in graph.node if name in node.input and node.op_type == "Reshape"]
    if "_mm" in name and len(readers) == 1 and readers[0].output[0] in known:
        return str(readers[0].output[0])  # one of the products that a packed one was split into
    return _SUFFIXES.sub("", name)


def wide_tensors(graph: onnx.GraphProto, narrow: set[str]) -> dict[str, str]:
    """The outputs of all operators in half precision: everything but the products named.

    A Reshape behind one of them gives the integers on.
    """
    integer: set[str] = set()
    wide = {}
    for node in graph.node:
        if product_of(node, graph) in narrow or (node.op_type == "Reshape" and node.input[0] in integer):
            integer.add(node.output[0])
        elif node.op_type != "exDataConvert":
            wide[node.output[0]] = WIDE
    return wide


def product_of(node: onnx.NodeProto, graph: onnx.GraphProto) -> str:
    """The product of the ONNX file that a node computes, or a part of; empty for another operator."""
    if node.op_type == "exSDPAttention":
        return str(node.name).split(".mix_2sdpa")[0]
    if node.op_type != "Conv":
        return ""
    if node.input[0] == "pixel_values_int8" or node.name.startswith("embed.conv"):
        return "embed.conv"
    if node.input[1].endswith(".weight"):
        return str(node.input[1]).removesuffix(".weight")
    parts = [
        each.output[0] for each in graph.node if each.op_type == "Reshape" and node.output[0] in each.input
    ]
    return f"{parts[0].split('.attention.')[0]}.packed" if parts and ".attention." in parts[0] else ""


def layer_table(printed: str) -> list[dict[str, str]]:
    """The compiler's table of layers."""
    return [row.groupdict() for row in _ROW.finditer(printed)]


class _Captured:
    """Sends what the process and its libraries print into a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.kept = [os.dup(1), os.dup(2)]
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(self.file, number)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), self.kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)
        os.close(self.file)


def _must(status: int, step: str) -> None:
    if status != 0:
        raise SystemExit(f"rknn-toolkit2: {step} failed with {status}; see printed.txt")


if __name__ == "__main__":
    sys.exit(main())
