"""A classifier in other processes: a spawned one loads it anew, a forked one is told to and does not hang."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_edge import Classifier, Prediction

ROOT = Path(__file__).parents[2]


def answer(classify: Classifier) -> list[Prediction]:
    return classify(np.full((12, 15, 3), 90, np.uint8))


def test_a_spawned_process_gets_the_classifier_by_pickle(data: Path) -> None:
    classify = Classifier(data / "dynamic.onnx", provider="cpu", threads=2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(answer, (classify,)) == answer(classify)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("call", ["classify(image)", "next(classify.batch([image]))"])
def test_a_forked_process_is_told_to_load_the_model_itself(call: str) -> None:
    code = (
        "import os, numpy\n"
        "from vit_edge import Classifier, UsageError\n"
        "image = numpy.zeros((20, 20, 3), numpy.uint8)\n"
        "classify = Classifier('tests/data/dynamic.onnx', provider='cpu', threads=2)\n"
        "classify(image)\n"
        "if os.fork() == 0:\n"
        f"    try: {call}\n"
        "    except UsageError as error: print(error, flush=True)\n"
        "    own = Classifier('tests/data/dynamic.onnx', provider='cpu', threads=2)\n"
        "    print(len(own(image)), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(len(classify(image)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    message, child, parent = result.stdout.splitlines()
    assert "forked" in message
    assert "load it in the child" in message
    assert (child, parent) == ("3", "3")
    assert (result.returncode, result.stderr) == (0, "")
