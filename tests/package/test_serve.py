"""A site served to this machine: what a browser gets, and what is refused."""

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.digits import Digits
from tools.check_package.browser import CHROMIUM, FLAGS
from vit_edge.cli import main
from vit_edge.errors import UsageError
from vit_edge.package.homes import site_files
from vit_edge.package.serve import content_type, served
from vit_edge.package.web import web_release

FILES = {"index.html": b"<p>here", "deep/model.mjs": b"export default 1", "a b.bin": b"\0\1"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(FILES, 0) as found:
        yield found


@pytest.fixture
def fake_modules(tmp_path: Path) -> Path:
    """A node_modules folder whose onnxruntime-web has the right names."""
    place = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    place.mkdir(parents=True)
    for name in web_release().files:
        (place / name).write_bytes(name.encode())
    return tmp_path / "node_modules"


def answer(address: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """The status, headers and content of one request, with the path as it is written."""
    connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=30)
    connection.request(method, f"/{path}")
    found = connection.getresponse()
    content = found.read()
    connection.close()
    return found.status, dict(found.getheaders()), content


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("", b"<p>here", "text/html"),
        ("index.html?run=2", b"<p>here", "text/html"),
        ("deep/model.mjs", b"export default 1", "text/javascript"),
        ("a%20b.bin", b"\0\1", "application/octet-stream"),
    ],
)
def test_a_file_comes_whole_with_its_type(address: str, path: str, content: bytes, kind: str) -> None:
    status, headers, found = answer(address, path)
    assert (status, found) == (200, content)
    assert headers["Content-Type"] == kind
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_head_has_no_body(address: str) -> None:
    status, headers, found = answer(address, "", "HEAD")
    assert (status, headers["Content-Length"], found) == (200, "7", b"")


@pytest.mark.parametrize("path", ["absent", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "deep", "deep/"])
def test_what_is_not_of_the_site_is_not_found(address: str, path: str) -> None:
    assert answer(address, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading_is_served(address: str, method: str) -> None:
    assert answer(address, "", method)[0] == 501


def test_it_is_served_to_this_machine_alone(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")


def test_a_port_in_use_is_refused_and_the_mend_named(address: str) -> None:
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    message = f"--port {port} cannot be served on .*; name another, or 0"
    with pytest.raises(UsageError, match=message), served(FILES, port):
        pass


def test_the_port_is_free_again_afterwards() -> None:
    with served(FILES, 0) as found:
        port = int(found.rstrip("/").rsplit(":", 1)[1])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.mjs", "text/javascript"), ("x.wasm", "application/wasm"), ("x.onnx", "application/octet-stream")],
)
def test_types_are_those_that_browsers_insist_on(name: str, kind: str) -> None:
    assert content_type(name) == kind


def test_a_bundle_becomes_a_whole_site(digits: Digits, fake_modules: Path) -> None:
    files = site_files(digits.bundle, fake_modules)
    assert {
        "index.html",
        "model.json",
        "onnx/model.onnx",
        *(f"ort/{name}" for name in web_release().files),
    } <= (files.keys())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--serve"], "--serve needs onnxruntime-web: give --modules DIR"),
        (["--serve", "--modules", "nowhere"], "--modules nowhere holds no onnxruntime-web"),
        (["--serve", "--port", "65536"], "--port must be 0 to 65535, not 65536"),
        (["--serve", "--port", "-1"], "--port must be 0 to 65535, not -1"),
        ([], "--serve"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    digits: Digits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["web", str(digits.bundle), *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_it_runs_until_it_is_stopped(digits: Digits, fake_modules: Path, number: int, status: int) -> None:
    words = ["web", str(digits.bundle), "--serve", "--port", "0", "--modules", str(fake_modules)]
    # Where SIGINT is ignored, as behind `&` of a shell without job control, Python would ignore it, too.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += f"from vit_edge.cli import main; raise SystemExit(main({words!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert answer(process.stdout.readline().split()[0], "model.json")[2].startswith(b"{")
        process.send_signal(number)
        assert process.wait(60) == status
        assert "Traceback" not in process.stderr.read()


def test_a_browser_gets_the_site_ready(digits: Digits, modules: Path, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("needs chromium or chrome")
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--timeout=60000"]
    words += ["--virtual-time-budget=20000", "--dump-dom"]
    with served(site_files(digits.bundle, modules), 0) as found:
        done = subprocess.run([*words, found], capture_output=True, text=True, check=False, timeout=120)
    assert 'data-state="ready"' in done.stdout, done.stderr[-2000:]
