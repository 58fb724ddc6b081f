"""Holds a server to the recorded answers: `python check.py http://127.0.0.1:8000`.

Speaks the Open Inference Protocol (v2) as Triton and KServe do; needs Python's standard library alone.
"""

import array
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 60


def numbers(name: str, kind: str) -> list[float]:
    """The values of a file, little endian."""
    values = array.array("B" if kind == "uint8" else "f", (HERE / name).read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    return [float(value) for value in values]


def answered(server: str, model: str, case: dict[str, Any]) -> list[float]:
    """What the server gives for the input of a case."""
    kind = {"uint8": "UINT8", "float32": "FP32"}[case["input_type"]]
    given = {"name": case["input"], "datatype": kind, "shape": case["input_shape"]}
    given["data"] = numbers(case["input_file"], case["input_type"])
    body = json.dumps({"inputs": [given], "outputs": [{"name": case["output"]}]}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server}/v2/models/{model}/infer", body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
        return [float(value) for value in json.load(reply)["outputs"][0]["data"]]


def holds(server: str, model: str, case: dict[str, Any]) -> bool:
    """Whether an answer is the recorded one; says so."""
    expected = numbers(case["output_file"], "float32")
    found = answered(server, model, case)
    apart = [abs(a - b) for a, b in zip(found, expected)]  # noqa: B905
    good = len(found) == len(expected) and all(each <= case["tolerance"] for each in apart)
    print(
        "ok  " if good else "FAIL",
        model,
        case["arithmetic"],
        f"{max(apart, default=0):.3g}",
        case["tolerance"],
    )
    return good


def main(server: str) -> int:
    """0 where every model gives the answers of one of the recorded arithmetics."""
    cases = json.loads((HERE / "golden/cases.json").read_text(encoding="utf-8"))["cases"]
    bad = 0
    for file in json.loads((HERE / "model.json").read_text(encoding="utf-8"))["files"]:
        found: dict[str, list[bool]] = {}
        for case in cases:
            if case["model"] == file["packed_from"]:
                found.setdefault(case["arithmetic"], []).append(holds(server, file["served_as"], case))
        good = any(map(all, found.values()))
        print("ok  " if good else "FAIL", file["served_as"])
        bad |= not good
    return bad


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python check.py http://127.0.0.1:8000")
    try:
        sys.exit(main(sys.argv[1].rstrip("/")))
    except (urllib.error.URLError, OSError, ValueError, KeyError) as error:
        sys.exit(f"{sys.argv[1]} does not answer as it should: {error}")
