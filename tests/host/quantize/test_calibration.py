"""The calibration pass: parts merge into the whole, an interrupted pass goes on, memory stays flat."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.host.quantize.forced import quantized
from tests.host.quantize.small_vit import PREPROCESS, images, lowering, small, written
from vit_edge.arrays import Pixels
from vit_edge.errors import ImageError, ModelError, UsageError
from vit_edge.host.quantize import passes as passes_module
from vit_edge.host.quantize import sample as sample_module
from vit_edge.host.quantize.cache import CalibrationFile, key_of
from vit_edge.host.quantize.histogram import Histogram
from vit_edge.host.quantize.observe import Observer
from vit_edge.host.quantize.passes import Reader, observed
from vit_edge.host.quantize.sample import RowSample, rows_of_each
from vit_edge.host.quantize.tally import Activation, Tallies
from vit_edge.host.quantize.types import Preset, QuantizeSettings

TAPS = ["blocks.0.qkv", "blocks.1.fc2", "head", "blocks.1.attention.k", "blocks.0.attention.p"]
ADDITION = 1e-9  # relative, of sums in float64 that were added in another order
PRODUCTS = 1e-6  # of second moments, which are sums in float32


@pytest.fixture(scope="module")
def observer() -> Observer:
    return Observer(small(), lowering(), TAPS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("calibration"), 6)


def passed(observer: Observer, pixels: Pixels) -> Tallies:
    calibration = Tallies()
    for image in pixels:
        observer.add(calibration, image)
    return calibration


def assert_same(found: dict[str, Activation], expected: dict[str, Activation], tolerance: float) -> None:
    """Everything bit for bit, but for sums, to a relative tolerance."""
    assert found.keys() == expected.keys()
    for tap, one in expected.items():
        other = found[tap]
        np.testing.assert_array_equal(other.low, one.low)
        np.testing.assert_array_equal(other.high, one.high)
        np.testing.assert_array_equal(other.sample, one.sample)
        np.testing.assert_array_equal(other.histogram.counts, one.histogram.counts)
        assert (other.rows, other.histogram.exponent) == (one.rows, one.histogram.exponent)
        largest = max(np.abs(one.low).max(), np.abs(one.high).max())
        np.testing.assert_allclose(other.mean, one.mean, rtol=0, atol=tolerance * largest)
        assert (other.moment is None) == (one.moment is None)
        if one.moment is not None and other.moment is not None:
            size = np.abs(one.moment).max()
            np.testing.assert_allclose(
                other.moment, one.moment, rtol=0, atol=(PRODUCTS if tolerance else 0) * size
            )


@pytest.mark.parametrize("cuts", [(1,), (20,), (7, 19, 33), (39,)])
def test_parts_of_the_images_merge_into_the_pass_over_all_of_them(
    observer: Observer, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_module, "SAMPLE_ROWS", 50)  # far fewer than 40 images have
    monkeypatch.setattr(sample_module, "MOST_IMAGES", 16)
    pixels = images(40)
    whole = passed(observer, pixels)
    parts = [passed(observer, part) for part in np.split(pixels, cuts)]
    merged = Tallies()
    for part in reversed(parts):
        merged.take(part)
    assert merged.done == 40
    assert_same(merged.finished(), whole.finished(), ADDITION)


def test_the_order_of_the_images_does_not_matter(observer: Observer) -> None:
    pixels = images(12)
    assert_same(passed(observer, pixels[::-1]).finished(), passed(observer, pixels).finished(), ADDITION)


def test_a_pass_collects_what_numpy_finds_in_all_the_rows_together(observer: Observer) -> None:
    pixels = images(5)
    seen = passed(observer, pixels).finished()
    for tap in TAPS:
        rows = np.concatenate([passed(observer, image[None]).finished()[tap].sample for image in pixels])
        found = seen[tap]
        assert found.rows == len(rows) == len(found.sample)  # few enough that all were sampled
        np.testing.assert_array_equal(found.low, rows.min(axis=0))
        np.testing.assert_array_equal(found.high, rows.max(axis=0))
        np.testing.assert_array_equal(found.histogram.counts, Histogram.of(rows).counts)
        exact = rows.astype(np.float64)
        np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=0, atol=1e-6 * np.abs(exact).max())
        if found.moment is not None:  # float32 products
            moment = exact.T @ exact / len(exact)
            np.testing.assert_allclose(found.moment, moment, rtol=0, atol=1e-6 * np.abs(moment).max())


def test_a_sample_is_bounded_and_holds_the_first_and_the_extreme_row_of_every_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sample_module, "SAMPLE_ROWS", 90)
    monkeypatch.setattr(sample_module, "MOST_IMAGES", 30)
    rng = np.random.default_rng(0)
    blocks = {int(rng.integers(2**63)): rng.standard_normal((17, 4)).astype(np.float32) for _ in range(80)}
    sample = RowSample()
    for key, values in blocks.items():
        sample.add(key, values)
        assert sum(len(rows) for _, rows in sample.blocks) <= 2 * 90 + 17
    kept = dict(sample.trimmed())
    assert sorted(kept) == sorted(blocks)[:30]
    assert len(sample.rows()) == 90
    for key, rows in kept.items():
        extreme = np.abs(blocks[key]).max(axis=1).argmax()
        assert len(rows) == 3
        np.testing.assert_array_equal(rows[0], blocks[key][0])
        assert (rows == blocks[key][extreme]).all(axis=1).any()


@pytest.mark.parametrize("images", [1, 7, 30, 31, 200])
def test_a_sample_keeps_of_each_image_what_is_left_of_it_in_the_end(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_module, "SAMPLE_ROWS", 90)
    monkeypatch.setattr(sample_module, "MOST_IMAGES", 30)
    rng = np.random.default_rng(images)
    whole, bounded, most = RowSample(), RowSample(each=rows_of_each(images)), 0
    for _ in range(images):
        key, values = int(rng.integers(2**63)), rng.standard_normal((97, 4)).astype(np.float32)
        whole.add(key, values)
        bounded.add(key, values)
        most = max(most, sum(len(rows) for _, rows in bounded.blocks))
    np.testing.assert_array_equal(bounded.rows(), whole.rows())
    assert most <= 90 + min(images, 30)  # a share that is no whole number is rounded up


def test_activations_that_are_not_finite_are_refused() -> None:
    class Broken:
        def run(self, names: list[str], _: dict[str, Pixels]) -> list[np.ndarray]:
            return [np.full((17, 72), np.nan, np.float32) for _ in names]

    broken = Observer(small(), lowering(), ["blocks.0.qkv"])
    broken.session = Broken()
    with pytest.raises(ModelError, match=r"small: blocks\.0\.qkv gets values that are not finite on .* 1"):
        broken.add(Tallies(), images(1)[0])


def counted(
    told: list[int], paths: list[Path], observer: Observer, folder: Path | None
) -> dict[str, Activation]:
    told.clear()
    return observed(observer, paths, Reader(PREPROCESS), folder, lambda done, _: told.append(done))


def test_a_finished_pass_is_not_repeated(observer: Observer, paths: list[Path], tmp_path: Path) -> None:
    told: list[int] = []
    first = counted(told, paths, observer, tmp_path)
    assert told == [1, 2, 3, 4, 5, 6]
    again = counted(told, paths, observer, tmp_path)
    assert told == [6]
    assert_same(again, first, 0.0)
    assert_same(counted(told, paths, observer, None), first, 0.0)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_an_interrupted_pass_goes_on_where_it_was_last_kept(
    observer: Observer, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes_module, "PART", 2)
    monkeypatch.setattr(passes_module, "SAVE_EVERY", 2)

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observed(observer, paths, Reader(PREPROCESS), tmp_path, stop)
    told: list[int] = []
    resumed = counted(told, paths, observer, tmp_path)
    assert told == [4, 5, 6]
    assert_same(resumed, counted(told, paths, observer, None), 0.0)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_as_good_as_none(
    observer: Observer, paths: list[Path], tmp_path: Path, part: float
) -> None:
    told: list[int] = []
    first = counted(told, paths, observer, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    assert_same(counted(told, paths, observer, tmp_path), first, 0.0)
    assert told == [1, 2, 3, 4, 5, 6]
    assert len(file.read_bytes()) == len(whole)


def test_a_file_with_flipped_bytes_is_ignored_or_whole_never_an_error(
    observer: Observer, paths: list[Path], tmp_path: Path
) -> None:
    told: list[int] = []
    counted(told, paths, observer, tmp_path)
    kept = CalibrationFile(tmp_path, key_of(observer, paths, PREPROCESS))
    whole = np.frombuffer(kept.path.read_bytes(), np.uint8)
    expected = kept.load().finished()
    rng, ignored = np.random.default_rng(0), 0
    for _ in range(60):
        bad = whole.copy()
        bad[rng.integers(len(bad))] ^= np.uint8(rng.integers(1, 256))
        kept.path.write_bytes(bad.tobytes())
        found = kept.load()
        ignored += found.done == 0
        if found.done:
            assert_same(found.finished(), expected, 0.0)
    assert ignored > 30


@pytest.mark.parametrize("content", ["pickle", "other key", "other shapes", "no taps", "an array"])
def test_a_file_that_is_something_else_is_ignored(
    observer: Observer, paths: list[Path], tmp_path: Path, content: str
) -> None:
    told: list[int] = []
    counted(told, paths, observer, tmp_path)
    kept = CalibrationFile(tmp_path, key_of(observer, paths, PREPROCESS))
    with np.load(kept.path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    changed = {
        "pickle": {"taps": np.asarray([{}], dtype=object)},
        "other key": {"key": np.asarray("0")},
        "other shapes": {"0.high": arrays["0.high"][:-1]},
        "no taps": {"taps": arrays["taps"][:0]},
        "an array": {},
    }[content]
    if content == "an array":
        with kept.path.open("wb") as file:
            np.save(file, arrays["0.low"])
    else:
        np.savez(kept.path, **(arrays | changed))
    assert kept.load().done == 0
    assert len(counted(told, paths, observer, tmp_path)) == len(TAPS)
    assert kept.load().done == 6


def test_a_file_that_would_inflate_is_ignored(observer: Observer, paths: list[Path], tmp_path: Path) -> None:
    counted([], paths, observer, tmp_path)
    kept = CalibrationFile(tmp_path, key_of(observer, paths, PREPROCESS))
    assert kept.load().done == 6
    with np.load(kept.path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez_compressed(kept.path, **arrays)
    assert kept.load().done == 0


def test_the_key_depends_on_model_taps_preprocessing_and_image_bytes(
    observer: Observer, paths: list[Path], tmp_path: Path
) -> None:
    other_images = [*paths[:-1], *written(tmp_path, 1, seed=9)]
    flipped = dataclasses.replace(PREPROCESS, mean=(0.5, 0.5, 0.5))
    keys = [
        key_of(observer, paths, PREPROCESS),
        key_of(observer, other_images, PREPROCESS),
        key_of(observer, paths[:-1], PREPROCESS),
        key_of(observer, paths, flipped),
        key_of(Observer(small(), lowering(), TAPS[:2]), paths, PREPROCESS),
        key_of(Observer(small(depth=2), lowering(), TAPS), paths, PREPROCESS),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(Observer(small(), lowering(), TAPS), paths, PREPROCESS) == keys[0]


def test_a_folder_that_cannot_be_made_is_refused_by_name(
    observer: Observer, paths: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/deeper: the calibration cannot be kept there"):
        counted([], paths, observer, tmp_path / "file" / "deeper")


def test_an_image_that_is_missing_is_refused_by_name(observer: Observer, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.png: cannot be read"):
        counted([], [tmp_path / "missing.png"], observer, tmp_path)


def test_a_second_preset_reuses_the_pass_of_the_first(paths: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    settings = [QuantizeSettings(preset, cache=kept) for preset in (Preset.BALANCED, Preset.FAST)]
    quantized(paths[:2], settings[0])
    (file,) = kept.iterdir()
    before = file.stat().st_mtime_ns
    _, again = quantized(paths[:2], settings[1])
    assert [entry.stat().st_mtime_ns for entry in kept.iterdir()] == [before]
    assert again.recipe.preset == "fast"


MEASURE = """
import resource, sys
from tests.host.quantize.small_vit import images, lowering, small
from vit_edge.host.quantize import sample
from vit_edge.host.quantize.tally import Tallies
from vit_edge.host.quantize.observe import Observer
sample.SAMPLE_ROWS, few, pixels = 512, int(sys.argv[1]), images(1)[0]
observer, calibration = Observer(small(1), lowering(), ["blocks.0.fc2", "head"]), Tallies()
for i in range(10 * few):
    pixels[0, 0] = i // 256, i % 256, 0
    observer.add(calibration, pixels)
    if calibration.done in (few, 10 * few):
        calibration.finished()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="reads the peak memory from getrusage")
def test_ten_times_the_images_need_no_more_memory() -> None:
    """Of the whole process, within 5 %."""
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, "100"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=120)
    few, many = map(int, result.stdout.split())
    assert many <= 1.05 * few
