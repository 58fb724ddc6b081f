"""Stands in for an environment with Rockchip's toolkit: answers the two commands that are run there."""

import json
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = """
import json, pathlib, sys
if sys.argv[1] == "-c":
    print("2.5.0")
    sys.exit()
job, out = json.loads(pathlib.Path(sys.argv[2]).read_text()), pathlib.Path(sys.argv[3])
assert all(pathlib.Path(path).is_file() for path in [job["model"], *job["calibration"]])
known = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
if known["fails"]:
    print("E build: Unsupported layer", file=sys.stderr)
    sys.exit(3)
layers = []
for name in known["products"]:
    kind = "INT8" if name in job["narrow"] and name not in known["left_wide"] else "FLOAT16"
    operator = "exSDPAttention" if name.endswith(".attention") else "Conv"
    shown = {"attention": ".mix_2sdpa", "packed": ".norm1_mm#1"}.get(name.rsplit(".", 1)[-1], "")
    shown = name.removesuffix(".packed") + shown if name.endswith(".packed") else name + shown
    layers.append({"operator": operator, "type": kind, "target": "NPU", "name": shown})
layers.append({"operator": "OutputOperator", "type": "FLOAT16", "target": "CPU", "name": "logits"})
layers += [{"operator": "Reshape", "type": "INT8", "target": "CPU", "name": each} for each in known["on_cpu"]]
(out / "model.rknn").write_bytes(b"RKNN" + job["platform"].encode())
(out / "case.json").write_text(json.dumps({"layers": layers, "applied": []}))
"""


def fake_toolkit(
    folder: Path,
    products: Sequence[str],
    left_wide: Sequence[str] = (),
    on_cpu: Sequence[str] = (),
    fails: bool = False,
) -> Path:
    """An interpreter that answers as one with the toolkit does.

    Args:
        folder: to write it to.
        products: of the file that it will be given.
        left_wide: those that it builds in half precision, whatever it is asked.
        on_cpu: names of layers that it leaves to the CPU.
        fails: it ends with an error.
    """
    folder.mkdir(exist_ok=True)
    told = {
        "products": list(products),
        "left_wide": list(left_wide),
        "on_cpu": list(on_cpu),
        "fails": fails,
    }
    (folder / "fake.json").write_text(json.dumps(told))
    (folder / "fake.py").write_text(SCRIPT)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "fake.py"}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python
