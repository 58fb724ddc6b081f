"""Holds the models of a bundle to its golden cases: `python check.py BUNDLE [exact|saturating]`.

Needs onnxruntime and numpy alone. See docs/golden.md.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

bundle, arithmetic = Path(sys.argv[1]), (sys.argv[2:] or ["exact"])[0]
cases = json.loads((bundle / "golden/cases.json").read_text(encoding="utf-8"))["cases"]
status, sessions = 0, {}
for case in (each for each in cases if each["arithmetic"] in ("any", arithmetic)):
    if case["model"] not in sessions:
        options = onnxruntime.SessionOptions()
        for key, value in case["session_options"].items():
            options.add_session_config_entry(key, value)
        path, cpu = str(bundle / case["model"]), ["CPUExecutionProvider"]
        sessions[case["model"]] = onnxruntime.InferenceSession(path, options, providers=cpu)
    given = np.fromfile(bundle / case["input_file"], "<" + np.dtype(case["input_type"]).str[1:])
    expected = np.fromfile(bundle / case["output_file"], "<f4").reshape(case["output_shape"])
    feed = {case["input"]: given.reshape(case["input_shape"])}
    found = sessions[case["model"]].run([case["output"]], feed)[0]
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    good = difference <= case["tolerance"]  # what is no number fails, too
    print("ok  " if good else "FAIL", case["model"], case["output"], f"{difference:.3g}", case["tolerance"])
    status |= not good
sys.exit(status if sessions else "no case is of this arithmetic")
