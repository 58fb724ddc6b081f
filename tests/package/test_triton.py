"""The repository for Triton: its configuration by the published schema, its check against a server."""

import dataclasses
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.package.conftest import CACHE, run
from tests.package.digits import FLOAT, INT8, Digits
from vit_edge.cli import main
from vit_edge.package.contents import contents_of
from vit_edge.package.triton import config
from vit_edge.spec import InputForm

PACKAGE = "tritonclient[grpc]==2.73.0"
# Reads each file as a ModelConfig, and prints what it says; unknown fields and wrong types are errors.
READ = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
read = [text_format.Parse(open(name).read(), model_config_pb2.ModelConfig()) for name in sys.argv[1:]]
print(json.dumps([json_format.MessageToDict(each, preserving_proto_field_name=True) for each in read]))
"""


@pytest.fixture(scope="module")
def package(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "app"
    assert main(["package", str(digits.bundle), "--for", "triton", "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[str]:
    """The part of the Open Inference Protocol that a check needs, on onnxruntime without session options."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            _, _, _, model, _ = self.path.split("/")
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = asked["inputs"][0]
            session = onnxruntime.InferenceSession(
                package / "models" / model / "1" / "model.onnx", providers=["CPUExecutionProvider"]
            )
            values = np.array(given["data"], {"FP32": np.float32, "UINT8": np.uint8}[given["datatype"]])
            [made] = session.run(
                [asked["outputs"][0]["name"]], {given["name"]: values.reshape(given["shape"])}
            )
            output = {
                "name": "logits",
                "datatype": "FP32",
                "shape": made.shape,
                "data": made.ravel().tolist(),
            }
            body = json.dumps({"model_name": model, "model_version": "1", "outputs": [output]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    found.server_close()


def test_every_model_has_its_version_configuration_and_labels(digits: Digits, package: Path) -> None:
    for name, path in (("digits_float", FLOAT), ("digits_int8", INT8)):
        folder = package / "models" / name
        assert sorted(each.name for each in folder.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
        assert (folder / "1" / "model.onnx").read_bytes() == (digits.bundle / path).read_bytes()
        assert (folder / "labels.txt").read_text().splitlines()[3] == "three"
    assert {each.name for each in (package / "models").iterdir()} == {"digits_float", "digits_int8"}


def test_the_configuration_is_of_the_published_schema(package: Path) -> None:
    place = CACHE / "pip_tritonclient-2.73.0"
    if not (place / "bin" / "python").exists():
        pytest.skip(f"needs tritonclient: python -m venv {place} && {place}/bin/pip install '{PACKAGE}'")
    files = sorted((package / "models").glob("*/config.pbtxt"))
    done = run(place / "bin" / "python", "-c", READ, *files)
    assert done.returncode == 0, done.stderr
    read: list[dict[str, Any]] = json.loads(done.stdout)
    assert [each["name"] for each in read] == ["digits_float", "digits_int8"]
    for each in read:
        assert each["backend"] == "onnxruntime"
        assert each["max_batch_size"] == 8
        assert each["input"] == [
            {"name": "pixel_values", "data_type": "TYPE_FP32", "dims": ["3", "32", "32"]}
        ]
        assert each["output"] == [
            {"name": "logits", "data_type": "TYPE_FP32", "dims": ["10"], "label_filename": "labels.txt"}
        ]
        assert each["dynamic_batching"] == {"max_queue_delay_microseconds": "1000"}
        assert each["version_policy"] == {"latest": {"num_versions": 1}}
        assert each["parameters"] == {"intra_op_thread_count": {"string_value": "1"}}


def test_what_is_no_configuration_would_be_noticed(package: Path, tmp_path: Path) -> None:
    place = CACHE / "pip_tritonclient-2.73.0"
    if not (place / "bin" / "python").exists():
        pytest.skip("needs tritonclient")
    text = (package / "models" / "digits_int8" / "config.pbtxt").read_text()
    (tmp_path / "config.pbtxt").write_text(text.replace("TYPE_FP32", "TYPE_FLOAT"))
    assert run(place / "bin" / "python", "-c", READ, tmp_path / "config.pbtxt").returncode != 0


def test_the_recorded_answers_hold_without_session_options(package: Path, server: str) -> None:
    done = run(sys.executable, "-I", package / "check.py", server)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert [line.split() for line in done.stdout.splitlines() if len(line.split()) == 2] == [
        ["ok", "digits_float"],
        ["ok", "digits_int8"],
    ]


def test_bytes_and_fixed_batches_are_configured_as_they_are(digits: Digits) -> None:
    packed = contents_of(digits.bundle).models[0]
    model = dataclasses.replace(packed.model, form=InputForm.PIXELS, batch=1)
    text = config(dataclasses.replace(packed, model=model), "one", {"logits": (10,)}, None)
    assert 'name: "pixels" data_type: TYPE_UINT8 dims: [1, 32, 32, 3]' in text
    assert 'name: "logits" data_type: TYPE_FP32 dims: [1, 10] }' in text
    assert "max_batch_size: 0\n" in text
    assert "dynamic_batching" not in text


@pytest.mark.parametrize("value", [9.0, float("nan")])
def test_a_wrong_answer_fails_the_check(package: Path, server: str, value: float) -> None:
    path = package / "golden" / "model.logits.any.1.bin"
    before = path.read_bytes()
    values = np.frombuffer(before, "<f4").copy()
    values[3] += value
    path.write_bytes(values.tobytes())
    done = run(sys.executable, "-I", package / "check.py", server)
    path.write_bytes(before)
    assert done.returncode == 1
    assert "FAIL digits_float" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: python check.py"),
        (["http://127.0.0.1:9"], "http://127.0.0.1:9 does not answer as it should"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(package: Path, words: list[str], message: str) -> None:
    done = run(sys.executable, "-I", package / "check.py", *words)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
