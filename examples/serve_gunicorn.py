"""Answers over HTTP by several processes: python serve_gunicorn.py BUNDLE [PORT] [WORKERS]; needs gunicorn.

The same on gunicorn's own command line, without --preload: each worker has to load the model behind the fork.

    gunicorn --workers 2 --bind 127.0.0.1:8000 'serve_gunicorn:make("bundle/")'
"""

import dataclasses
import json
import sys
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.app.base import BaseApplication

from vit_edge import Classifier, ImageError, UsageError

MOST_BYTES = 20_000_000  # of a request

App = Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]


def make(bundle: str) -> App:
    """The app, in WSGI's words; each process makes its own."""
    classify = Classifier.for_server(bundle)

    def answer(request: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        status, said = "200 OK", object()
        try:
            size = int(request.get("CONTENT_LENGTH") or 0)
            if size > MOST_BYTES:
                raise ImageError(f"the image has {size} bytes; {MOST_BYTES} are the most")
            top = int(urllib.parse.parse_qs(request["QUERY_STRING"]).get("top", ["5"])[0])
            found = classify(request["wsgi.input"].read(size), top_k=top)
            said = [dataclasses.asdict(each) for each in found]
        except (ImageError, UsageError, ValueError) as error:  # the last: a number that is none
            status, said = "422 Unprocessable Content", {"detail": str(error)}
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(said).encode()]

    return answer


class Server(BaseApplication):
    """Gunicorn, with these settings."""

    def __init__(self, bundle: str, port: str = "8000", workers: str = "2") -> None:
        self.bundle, self.given = bundle, {"bind": f"127.0.0.1:{port}", "workers": int(workers)}
        super().__init__()

    def load_config(self) -> None:
        """Set them; the model is loaded behind the fork, as nothing is preloaded."""
        for name, value in (self.given | {"preload_app": False, "loglevel": "warning"}).items():
            self.cfg.set(name, value)

    def load(self) -> App:
        """Called in each worker."""
        return make(self.bundle)


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
