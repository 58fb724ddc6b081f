"""Programs around the runtime, run as a stranger would run them."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.newest_frame import Newest
from tests.package.conftest import CACHE, run
from tests.package.digits import ROOT, Digits
from vit_edge import Classifier
from vit_edge.runtime.evaluate.dataset import list_images

EXAMPLES = ROOT / "examples"
SERVER = "pip_fastapi-0.165.0"  # an environment with fastapi and uvicorn beside what vit_edge needs


@pytest.fixture(scope="module")
def images(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for path in list_images(digits.images / "test").paths[::12]:
        (folder / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    return folder


def test_processes_give_the_answers_of_one(digits: Digits, images: Path) -> None:
    (images / "bad.png").write_bytes(b"no image")
    done = run(sys.executable, EXAMPLES / "classify_in_processes.py", digits.bundle, images, "2", cwd=ROOT)
    (images / "bad.png").unlink()
    assert (done.returncode, done.stderr) == (0, "")
    classify = Classifier(digits.bundle, threads=1)
    lines = done.stdout.splitlines()
    assert len(lines) == 36
    assert "is no JPEG, PNG, WebP or BMP image" in lines[0]
    for line, path in zip(lines[1:], sorted(images.iterdir()), strict=True):
        best = classify(path, top_k=1)[0]
        assert line == f"{path}: {best.label} {best.score:.2f}"


def test_every_frame_of_a_camera_is_read_or_dropped(digits: Digits, images: Path) -> None:
    program = EXAMPLES / "newest_frame.py"
    done = run(sys.executable, program, digits.bundle, images, "400", "0.5", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    *answers, last = done.stdout.splitlines()
    read, dropped = (int(word) for word in last.replace(",", "").split()[1::2])
    assert read == len(answers) > 0
    assert read + dropped == 200


def test_a_slow_reader_gets_the_newest_frame_and_then_the_end() -> None:
    place = Newest()
    frames = [np.full((2, 2, 3), value, np.uint8) for value in range(3)]
    for frame in frames:
        place.put(frame)
    assert place.take() is frames[2]
    assert place.dropped == 2
    place.put(frames[0])
    place.put(None)
    assert place.take() is frames[0]
    assert place.take() is None
    assert place.dropped == 2


@pytest.fixture(scope="module", params=["serve.py", "serve_gunicorn.py"])
def address(digits: Digits, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a server, once it answers."""
    python = CACHE / SERVER / "bin" / "python"
    package = {"serve.py": "fastapi", "serve_gunicorn.py": "gunicorn"}[request.param]
    if not list((CACHE / SERVER).glob(f"lib/*/site-packages/{package}")):
        packages = "fastapi==0.165.0 uvicorn gunicorn==27.0.1 numpy pillow onnxruntime"
        pytest.skip(f"needs {package}: an environment {CACHE / SERVER} with {packages}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), str(EXAMPLES / request.param), str(digits.bundle), str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        for _ in range(600):
            assert server.poll() is None, server.communicate()[1]
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/classify"
        server.terminate()


def posted(address: str, data: bytes) -> tuple[int, object]:
    request = urllib.request.Request(address, data, {"Content-Type": "application/octet-stream"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_server_gives_the_answers_of_the_classifier(digits: Digits, images: Path, address: str) -> None:
    classify = Classifier(digits.bundle, threads=1)
    for path in sorted(images.iterdir())[:5]:
        status, found = posted(f"{address}?top=2", path.read_bytes())
        assert (status, found) == (
            200,
            [{"label": e.label, "score": e.score, "index": e.index} for e in classify(path, top_k=2)],
        )


@pytest.mark.parametrize(("query", "data"), [("", b"no image"), ("", b""), ("?top=0", b"no image")])
def test_a_server_refuses_what_it_cannot_answer(address: str, query: str, data: bytes) -> None:
    status, said = posted(address + query, data)
    assert status == 422
    assert "detail" in str(said)
