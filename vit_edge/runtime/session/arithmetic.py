"""How this device adds up integer products, found by letting it add some."""

import base64
import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import Arithmetic, InputForm

_SIDE = 4  # pixels
# White, quantized with 1/255, times 48 int8 weights of 127 and scale 1/(127 * 48) gives 1. Where two products
# of 255 and 127 are added in int16, each pair is cut to 32,767 of 64,770. A test builds the same model.
_MODEL = base64.b64decode(
    "CAg61gMKHAoGcGl4ZWxzEgFmIgRDYXN0KgkKAnRvGAGgAQIKEgoBZgoFc2NhbGUSAXUiA011bAoVCgF1CgRmbGF0EgFyIgdSZXNo"
    "YXBlCiMKAXIKBXNjYWxlCgR6ZXJvEgFxIg5RdWFudGl6ZUxpbmVhcgolCgFxCgVzY2FsZQoEemVybxIBeCIQRGVxdWFudGl6ZUxp"
    "bmVhcgo5Cgd3ZWlnaHRzCgx3ZWlnaHRfc2NhbGUKC3dlaWdodF96ZXJvEgF3IhBEZXF1YW50aXplTGluZWFyChYKAXgKAXcSBmxv"
    "Z2l0cyIGTWF0TXVsEgVwcm9iZSoPEAFCBXNjYWxlSgSBgIA7KgsQAkIEemVyb0oBACpBCDAIARADQgd3ZWlnaHRzSjB/f39/f39/"
    "f39/f39/f39/f39/f39/f39/f39/f39/f39/f39/f39/f39/f39/f38qFhABQgx3ZWlnaHRfc2NhbGVKBLACLDkqEhADQgt3ZWln"
    "aHRfemVyb0oBACocCAIQB0IEZmxhdEoQ//////////8wAAAAAAAAAFogCgZwaXhlbHMSFgoUCAISEAoCCAEKAggECgIIBAoCCANi"
    "GAoGbG9naXRzEg4KDAgBEggKAggBCgIIAUIECgAQEQ=="
)
_ANSWERS = {Arithmetic.EXACT: 1.0, Arithmetic.SATURATING: 32767 / 64770}
_NEAR = 0.02  # a provider may compute in half precision


def arithmetic_of(settings: SessionSettings, model: ModelFile | None = None) -> Arithmetic | None:
    """How products of uint8 and int8 are added in a session of these settings on this device.

    Args:
        settings: above all, the provider.
        model: whose session options hold; a file may ask an x86 CPU for exact products.

    Returns:
        `EXACT` or `SATURATING`; None where the device gives something that is neither.

    Raises:
        VitEdgeError: the provider is not installed, or does not run the product.
    """
    probe = ModelFile(
        path=Path("integer products"),
        data=_MODEL,
        sha256=hashlib.sha256(_MODEL).hexdigest(),
        labels=None,
        preprocess=None,
        session_options=() if model is None else model.session_options,
        metadata={},
        form=InputForm.PIXELS,
        batch=1,
        size=(_SIDE, _SIDE),
        classes=1,
    )
    plain = dataclasses.replace(settings, threads=1, trace=None)
    given = float(Session(probe, plain).run(np.full((1, _SIDE, _SIDE, 3), 255, np.uint8))[0, 0])
    return next((kind for kind, value in _ANSWERS.items() if abs(given - value) <= _NEAR), None)
