"""Runs in the emulated device's Python: one warm inference of an ONNX file, between the counter's marks.

Usage: python on_device_onnx.py MODEL PROFILE OUT

PROFILE is `profile` or `plain`: profiling costs instructions of its own, so totals come from a plain run. OUT
receives the operators in the order in which they ran (none in a plain run), as a JSON list of their types.
"""

import json
import os
import sys
from pathlib import Path

from vit_edge import Session, SessionSettings, read_model
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.session.session import feed_of


def main() -> None:
    model, out = read_model(sys.argv[1]), Path(sys.argv[3])
    trace = out.with_name("trace") if sys.argv[2] == "profile" else None
    session = Session(model, SessionSettings(provider="cpu", threads=1, trace=trace))
    if model.input_size is None:
        sys.exit(f"{model.path} does not say its image size")
    feed = feed_of(model, random_pixels(1, model.input_size), model.preprocess)
    session.run_feed(feed)
    os.sched_yield()
    session.run_feed(feed)
    os.sched_yield()
    ran: list[str] = []
    if trace is not None:
        events = json.loads(session.end_trace().read_text(encoding="utf-8"))
        nodes = [event["args"]["op_name"] for event in events if event.get("cat") == "Node"]
        ran = nodes[len(nodes) // 2 :]  # the second of two runs
    out.write_text(json.dumps(ran), encoding="utf-8")


if __name__ == "__main__":
    main()
