"""A site in headless Chromium: served on the loopback, used by a harness around it."""

import http.server
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vit_edge.errors import UsageError

HERE = Path(__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TYPES = {".mjs": "text/javascript", ".html": "text/html", ".css": "text/css", ".wasm": "application/wasm"}
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # it may run as root, and shows nothing but pages of our own
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]


class Seen(NamedTuple):
    """What the harness sent, and what the browser complained of."""

    result: dict[str, Any]
    log: str


def visit(site: Path, images: Sequence[Path], files: Sequence[str], timeout: float = 200) -> Seen:
    """Let the harness choose each image with each model file.

    Raises:
        UsageError: the browser did not finish in time, with the end of its log.
    """
    result: dict[str, Any] = {}
    done = threading.Event()
    job = json.dumps({"files": list(files), "images": [path.name for path in images]}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, kind, *rest = self.path.split("/")
            file = {"site": site.joinpath(*rest), "harness.html": HERE / "harness.html"}.get(kind)
            if kind == "image":
                file = images[int(rest[0])]
            if kind != "job.json" and (file is None or not file.is_file()):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header(
                "Content-Type", TYPES.get(file.suffix if file else "", "application/octet-stream")
            )
            self.end_headers()
            self.wfile.write(job if file is None else file.read_bytes())

        def do_POST(self) -> None:
            result.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_address[1]}/harness.html"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        log = Path(profile, "log")
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}/data", "--remote-debugging-port=0"]
        with log.open("wb") as stream:
            browser = subprocess.Popen(
                [*command, "--enable-logging=stderr", page], stdout=subprocess.DEVNULL, stderr=stream
            )
            finished = done.wait(timeout)
            browser.terminate()
            browser.wait(30)
        server.shutdown()
        server.server_close()
        said = log.read_text(errors="replace")
    if not finished:
        raise UsageError(f"the browser did not finish in {timeout:.0f} s: {said[-2000:]}")
    return Seen(result, said)
