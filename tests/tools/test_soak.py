"""Memory does not grow with predictions; `python -m tools.soak` is the long form."""

import sys
from pathlib import Path

import pytest

from tools.soak import Soak, main, noise, soak
from vit_edge import Classifier

DATA = Path(__file__).parent.parent / "data"

linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux's /proc")


@linux
@pytest.mark.parametrize("batch", [1, 8])
def test_memory_stays_where_it_was(batch: int) -> None:
    classify = Classifier(DATA / "dynamic.onnx", provider="cpu", threads=1)
    found = soak(classify, noise(), early=200, late=1500, batch=batch)
    assert found.growth < 10, f"a leak of one image per prediction would be {1300 * 0.4:.0f} MB"


def test_growth_is_relative_to_the_first_point() -> None:
    assert Soak(1, 2, 100.0, 103.0).growth == pytest.approx(3)


@linux
def test_growth_beyond_the_bound_fails() -> None:
    arguments = ["--model", str(DATA / "dynamic.onnx"), "--early", "1", "--late", "3", "--threads", "1"]
    with pytest.raises(SystemExit, match="memory grew"):
        main([*arguments, "--most", "-50"])


def test_points_out_of_order_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--model", "any", "--early", "10", "--late", "10"])
    assert "--early" in capsys.readouterr().err
