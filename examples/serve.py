"""Answers over HTTP: python serve.py BUNDLE [PORT]; needs fastapi and uvicorn.

curl --data-binary @photo.jpg -H "Content-Type: application/octet-stream" http://127.0.0.1:8000/classify
"""

import dataclasses
import sys
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI, HTTPException, Query

from vit_edge import Classifier, ImageError

Image = Annotated[bytes, Body(media_type="application/octet-stream")]


def make(bundle: str) -> FastAPI:
    """The app; each process that serves makes its own, behind any fork."""
    app, classify = FastAPI(), Classifier.for_server(bundle)

    @app.post("/classify")
    def answer(
        image: Image, top: Annotated[int, Query(ge=1)] = 5
    ) -> list[dict]:  # in a thread, as it is no async
        try:
            return [dataclasses.asdict(each) for each in classify(image, top_k=top)]
        except ImageError as error:
            raise HTTPException(422, str(error)) from None

    return app


if __name__ == "__main__":
    uvicorn.run(make(sys.argv[1]), port=int((sys.argv[2:] or ["8000"])[0]), log_level="warning")
