"""A classifier in other processes: a spawned one loads it anew, a forked one is told to and does not hang."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_edge import Classifier, Prediction

ROOT = Path(__file__).parents[3]


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("lock", ["quiet.quiet", "decode._given_lock", "autotune._measuring"])
def test_a_process_that_was_forked_while_a_thread_held_a_lock_does_not_hang(
    lock: str, tmp_path: Path
) -> None:
    code = (
        "import io, os, threading, warnings\n"
        "from PIL import Image\n"
        "from vit_edge import Classifier\n"
        "from vit_edge.runtime.image import decode, quiet\n"
        "from vit_edge.runtime.measure import threads as autotune\n"
        "held, done, filters = threading.Event(), threading.Event(), warnings.filters\n"
        "def hold():\n"
        f"    with {lock}: held.set(); done.wait()\n"
        "thread = threading.Thread(target=hold)\n"
        "thread.start(); held.wait()\n"
        "process = os.fork()\n"
        "if process == 0:\n"
        "    buffer = io.BytesIO(); Image.new('RGB', (20, 20)).save(buffer, 'JPEG')\n"
        "    classify = Classifier('tests/data/dynamic.onnx', provider='cpu', threads='auto')\n"
        "    print(len(classify(buffer.getvalue())), len(classify(Image.open(buffer))), flush=True)\n"
        "    print(warnings.filters is filters, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(process, 0)\n"
        "done.set(); thread.join()\n"
        "print(warnings.filters is filters)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],  # of forking with threads
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        env=dict(os.environ, XDG_CACHE_HOME=str(tmp_path)),
    )
    assert result.stdout.splitlines() == ["3 3", "True", "True"]
    assert (result.returncode, result.stderr) == (0, "")
