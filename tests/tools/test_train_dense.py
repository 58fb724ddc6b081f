"""Training of the worked examples: it begins with the digits ViT, learns, and is kept in half precision."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from tools.canvases import MASK_LABELS, SIDE, canvases
from tools.digits import LABELS, split
from tools.digits_dense import CONFIG, WEIGHTS, load, save, started, write_onnx
from tools.train_dense import Recipe, batch_of, loss_of, train
from tools.train_digits import CONFIG as DIGITS
from vit_edge.host.sources.checkpoints import read_state_dict

CANVASES = list(itertools.islice(canvases(split()["calibration"], 5), 12))
CELLS = CONFIG.grid[0] * CONFIG.grid[1]


def test_the_encoder_begins_as_the_digits_vit_with_stretched_positions() -> None:
    given = read_state_dict(Path(WEIGHTS).parents[1] / "digits_vit" / "model.safetensors")
    model = started()
    patch = model.encoder.patch_embed.proj.weight
    (kept,) = (value for name, value in given.items() if name.endswith("projection.weight"))
    torch.testing.assert_close(patch, kept)
    positions = model.encoder.pos_embed[0, 1:].reshape(*CONFIG.grid, CONFIG.dim)
    (small,) = (value for name, value in given.items() if name.endswith("position_embeddings"))
    coarse = small[0, 1:].reshape(*DIGITS.grid, DIGITS.dim)
    torch.testing.assert_close(positions[0, 0], coarse[0, 0])  # a corner is not stretched
    between = positions[3:5, 3:5].mean(dim=(0, 1))  # nor is the middle
    torch.testing.assert_close(between, coarse[1:3, 1:3].mean(dim=(0, 1)), atol=1e-5, rtol=1e-4)


def test_a_few_steps_lower_the_loss_on_digits_that_were_not_trained_on() -> None:
    recipe = Recipe(steps=30, batch=8, average=0.8)
    begun = started().eval()
    learned = train(split()["train"], recipe)
    with torch.no_grad():
        before, after = (loss_of(model, CANVASES, recipe).item() for model in (begun, learned))
    assert after < 0.8 * before


def test_what_is_true_of_canvases_is_given_in_shares() -> None:
    images, masks, objects = batch_of(CANVASES)
    assert images.shape == (len(CANVASES), 3, SIDE, SIDE)
    assert masks.max() <= len(LABELS)
    for each, canvas in zip(objects, CANVASES, strict=True):
        np.testing.assert_allclose(each.corners.numpy() * SIDE, canvas.corners, atol=1e-4)
        assert each.labels.tolist() == canvas.labels.tolist()


def test_weights_are_kept_in_half_precision_and_the_files_have_any_batch(tmp_path: Path) -> None:
    model = load()
    save(model, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").stat().st_size < 1.2e6
    again = load(tmp_path / "again.safetensors")
    for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    write_onnx(model, tmp_path)
    shapes = {
        "detector": {"logits": (3, CELLS, len(LABELS) + 1), "pred_boxes": (3, CELLS, 4)},
        "segmenter": {"scores": (3, len(MASK_LABELS), 4 * CONFIG.grid[0], 4 * CONFIG.grid[1])},
    }
    for name, expected in shapes.items():
        onnx.checker.check_model(onnx.load(tmp_path / f"{name}.onnx"), full_check=True)
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        found = session.run(None, {"pixel_values": np.zeros((3, 3, SIDE, SIDE), np.float32)})
        names = [output.name for output in session.get_outputs()]
        assert {key: value.shape for key, value in zip(names, found, strict=True)} == expected
