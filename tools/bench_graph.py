"""Times the float canonical graph against the graph as exported, both under onnxruntime's full optimisation.

The exported graph is what users make: a Hugging Face ViT with SDPA attention through torch.onnx.export,
dynamic batch. The canonical graph is that file rewritten and lowered, dynamic batch too. Rounds are
interleaved.
"""

import argparse
import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from transformers import ViTConfig, ViTForImageClassification

from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.measure.timing import Ratio, Rounds, latency, ratios_to_first, time_interleaved

SEED = 0
LARGEST_DIFFERENCE = 1e-3  # of logits; more means that the two graphs are not the same model


@dataclasses.dataclass(frozen=True)
class Case:
    """One model to time."""

    name: str
    build: Callable[[], torch.nn.Module]
    size: int  # pixels, height and width


class Logits(torch.nn.Module):
    """A classifier as a function from pixels to logits."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of pixel_values (N, 3, H, W)."""
        logits: torch.Tensor = self.model(pixel_values=pixel_values).logits
        return logits


def vit_small() -> torch.nn.Module:
    torch.manual_seed(SEED)
    config = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    config._attn_implementation = "sdpa"
    model: torch.nn.Module = ViTForImageClassification(config)
    return model


def case_of_folder(folder: Path) -> Case:
    size = int(ViTConfig.from_pretrained(folder).image_size)
    return Case(
        folder.resolve().parent.name,
        lambda: ViTForImageClassification.from_pretrained(folder, attn_implementation="sdpa"),
        size,
    )


def export(case: Case) -> onnx.ModelProto:
    model = Logits(case.build()).eval()
    example = torch.zeros(2, 3, case.size, case.size)
    # The exporter's progress and warnings are about itself.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["pixel_values"],
            output_names=["logits"],
            verbose=False,
        )
    if made is None:
        raise SystemExit(f"{case.name} could not be exported")
    proto: onnx.ModelProto = made.model_proto
    return proto


def session_of(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def measure(case: Case, threads: int, batch: int, rounds: Rounds) -> tuple[float, float, Ratio]:
    """(exported ms, canonical ms, exported / canonical), medians."""
    exported = export(case)
    canonical = lower(canonicalise(exported, case.name), LowerSettings())
    sessions = [session_of(model, threads) for model in (canonical, exported)]
    shape = (batch, 3, case.size, case.size)
    feed = {"pixel_values": np.random.default_rng(SEED).normal(size=shape).astype(np.float32)}
    ours, theirs = (session.run(None, feed)[0] for session in sessions)
    difference = float(np.abs(ours - theirs).max())
    if difference > LARGEST_DIFFERENCE:
        raise SystemExit(f"{case.name}: the two graphs differ by {difference:g} in the logits")
    runs = [lambda session=session: session.run(None, feed) for session in sessions]
    times = time_interleaved(runs, rounds)
    return latency(times[:, 1]).median_ms, latency(times[:, 0]).median_ms, ratios_to_first(times)[1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time the canonical float graph against the exported one.")
    parser.add_argument(
        "folders", nargs="*", type=Path, help="Hugging Face ViT folders; none: ViT-Small alone"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30, help="at least so many")
    parser.add_argument("--seconds", type=float, default=10.0, help="and at least so long, for each model")
    given = parser.parse_args(arguments)
    cases = [case_of_folder(folder) for folder in given.folders]
    cases.append(Case("ViT-Small/16 224, random", vit_small, 224))
    print(f"{describe_machine()}")
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}; ", end="")
    print(f"threads {given.threads}, batch {given.batch}")
    print(f"{'model':28s} {'exported ms':>12s} {'canonical ms':>13s} {'times faster':>13s}  quartiles")
    for case in cases:
        theirs, ours, ratio = measure(case, given.threads, given.batch, Rounds(given.rounds, given.seconds))
        low, high = ratio.quartiles
        print(
            f"{case.name:28s} {theirs:12.2f} {ours:13.2f} {ratio.median:13.3f}  {low:.3f} to {high:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
