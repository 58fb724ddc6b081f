"""A site, served from memory to this machine alone."""

import contextlib
import http.server
import mimetypes
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from vit_edge.errors import UsageError

LOOPBACK = "127.0.0.1"
START = "index.html"

_TABLE = mimetypes.MimeTypes()  # Python's own, whatever the system's says
_SCRIPT = "text/javascript"  # what the standard says (RFC 9239); Python's table names an older one
_SCRIPTS = {".mjs", ".js"}


@contextlib.contextmanager
def served(files: Mapping[str, bytes], port: int) -> Iterator[str]:
    """Serve files until the block ends.

    Args:
        files: contents by their paths in the site.
        port: on the loopback; 0 takes a free one.

    Yields:
        The address of the site.

    Raises:
        UsageError: the port is in use, not allowed, or none.
    """
    try:
        server = http.server.ThreadingHTTPServer((LOOPBACK, port), _handler(files))
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"--port {port} cannot be served on ({said}); name another, or 0 for one that is free"
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(files: Mapping[str, bytes]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 30  # seconds for a request, so that one that never ends holds no thread

        def do_GET(self) -> None:
            data = self._head()
            if data is not None:
                with contextlib.suppress(ConnectionError):  # the browser went elsewhere
                    self.wfile.write(data)

        def do_HEAD(self) -> None:
            self._head()

        def _head(self) -> bytes | None:
            name = unquote(urlsplit(self.path).path).lstrip("/") or START
            data = files.get(name)
            if data is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return None
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", content_type(name))
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")  # the next bundle may be another
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            return data

        def log_message(self, *_: object) -> None:
            """Nothing: a request is no news."""

    return Handler


def content_type(name: str) -> str:
    """The MIME type by a file's ending."""
    if PurePosixPath(name).suffix in _SCRIPTS:
        return _SCRIPT
    return _TABLE.guess_type(name)[0] or "application/octet-stream"
