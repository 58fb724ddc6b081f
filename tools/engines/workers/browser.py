"""onnxruntime-web in headless Chromium: `browser.py CHROMIUM MODULES JOB`.

A local server hands out this folder, the npm packages below MODULES, and the job; the page sends back what it
found. Nothing but 127.0.0.1 is asked for.
"""

import http.server
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
TYPES = {
    ".mjs": "text/javascript",
    ".html": "text/html",
    ".wasm": "application/wasm",
    ".json": "application/json",
}
TIMEOUT_S = 1800
LAST = ("result.json", "error.txt")


class Handler(http.server.BaseHTTPRequestHandler):
    """Files below three folders, and what the page posts."""

    folders: dict[str, Path]
    done: threading.Event

    def file(self) -> Path | None:
        """What the path names; None where it leads elsewhere."""
        _, kind, *rest = self.path.split("/")
        folder = self.folders.get(kind)
        return None if folder is None or ".." in rest or not rest else folder.joinpath(*rest)

    def do_GET(self) -> None:
        """One file."""
        file = self.file()
        if file is None or not file.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(file.suffix, "application/octet-stream"))
        self.end_headers()
        self.wfile.write(file.read_bytes())

    def do_POST(self) -> None:
        """Keep a result."""
        file = self.file()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if file is None or file.parent != self.folders["job"]:
            self.send_error(403)
            return
        file.write_bytes(data)
        self.send_response(204)
        self.end_headers()
        if file.name in LAST:
            self.done.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server calls
        """Keep quiet."""


def main(chromium: str, modules: Path, job: Path) -> int:
    Handler.folders = {"workers": HERE, "modules": modules / "node_modules", "job": job}
    Handler.done = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_address[1]}/workers/browser.html"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={profile}", "--remote-debugging-port=0", page]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        finished = Handler.done.wait(TIMEOUT_S)
        browser.terminate()
        browser.wait(30)
    server.shutdown()
    error = job / LAST[1]
    if not finished or error.exists():
        sys.exit(error.read_text(encoding="utf-8") if error.exists() else "the browser did not finish")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).resolve()))
