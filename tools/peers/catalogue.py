"""The other quantizers: what is installed for each, what is run, and which engine runs what it makes."""

import dataclasses

from tools.peers.environments import Environment
from tools.peers.workshop import package_digest

ORT = "onnxruntime==1.32.0"
ONNX = "onnx==1.23.2"

ENVIRONMENTS = {
    each.name: each
    for each in (
        Environment("vit-edge", ("vit-edge[host]",), "vit_edge.host.convert.one_file", package_digest()),
        Environment("onnxruntime", (ORT, ONNX, "sympy==1.14.0"), "onnxruntime.quantization"),
        Environment("nncf", ("nncf==3.4.0", "openvino==2026.4.1", ONNX, ORT), "nncf"),
        Environment(
            "optimum", ("optimum-onnx[onnxruntime]==0.1.0", "datasets==5.0.1"), "optimum.onnxruntime"
        ),
        Environment(
            "inc-onnx",  # with what was new when it was released; it needs the last two and does not say so
            (
                "onnx-neural-compressor==1.0",
                "onnx==1.16.2",
                "onnxruntime==1.18.1",
                "prettytable==3.18.0",
                "scipy==1.17.1",
            ),
            "onnx_neural_compressor.quantization",
        ),
        Environment("modelopt", ("nvidia-modelopt[onnx]==0.47.0",), "modelopt.onnx.quantization"),
        Environment("quark", ("amd-quark==0.13", "onnxruntime==1.28.0", "torch==2.13.0"), "quark.onnx"),
        Environment("onnxsim", ("onnxsim==0.8.1", ORT), "onnxsim"),
        Environment(
            "olive", ("olive-ai==0.13.0", ORT, ONNX, "requests==2.34.2"), "olive"
        ),  # needs it and does not say so
        Environment("aimet", ("aimet-onnx==2.42.0",), "aimet_onnx"),
        Environment("torchao", ("torchao==0.18.0", "torch==2.13.0", "transformers==5.23.0"), "torchao"),
        Environment(
            "executorch", ("executorch==1.5.1", "torch==2.13.0", "transformers==5.23.0"), "executorch.exir"
        ),
        Environment(
            "inc",
            ("neural-compressor-pt==3.10", "torch==2.13.0", "transformers==5.23.0"),
            "neural_compressor.torch",
        ),
        Environment(
            "litert",
            (
                "litert-torch==0.10.0",
                "ai-edge-litert==2.3.0",
                "litert-quantizer==0.11.0",
                "torch==2.13.0",
                "transformers==5.23.0",
            ),
            "litert_torch",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One quantizer with one choice of settings.

    Args:
        name: of the row.
        environment: whose Python runs the recipe.
        recipe: a file in `recipes/`, without its ending.
        function: in that file.
        settings: what was chosen, for the record.
        model: the file that an engine loads.
        engines: that run it, the tool's own first.
    """

    name: str
    environment: str
    recipe: str
    function: str
    settings: str
    model: str = "model.onnx"
    engines: tuple[str, ...] = ("onnxruntime",)


@dataclasses.dataclass(frozen=True)
class Engine:
    """What runs models: a module in `workers/` and the environment that it runs in."""

    module: str
    environment: str


ENGINES = {
    "onnxruntime": Engine("onnxruntime_engine", "onnxruntime"),
    "OpenVINO": Engine("openvino_engine", "nncf"),
    "ExecuTorch": Engine("executorch_engine", "executorch"),
    "PyTorch": Engine("pytorch_engine", "torchao"),
    "LiteRT": Engine("litert_engine", "litert"),
}
_QUANTIZED = "model_quantized.onnx"  # Optimum's name
_BOTH = ("onnxruntime", "OpenVINO")
_IR, _PTE, _PT2, _LITE = "model.xml", "model.pte", "model.pt2", "model.tflite"
_XNNPACK = "XNNPACKQuantizer, symmetric, per channel"


def _ours(preset: str) -> Variant:
    settings = f"--preset {preset}, the portable file"
    return Variant(f"vit-edge {preset}", "vit-edge", "vit_edge_tools", preset, settings)


def _ort(name: str, function: str, settings: str) -> Variant:
    return Variant(f"onnxruntime, {name}", "onnxruntime", "onnxruntime_tools", function, settings)


def _nncf(name: str, function: str, settings: str) -> Variant:
    return Variant(
        f"NNCF, {name}",
        "nncf",
        "nncf_tools",
        function,
        f"ModelType.TRANSFORMER, {settings}",
        _IR,
        ("OpenVINO",),
    )


VARIANTS = (
    _ours("accurate"),
    _ours("balanced"),
    _ours("fast"),
    _ours("static"),
    _ort("dynamic", "dynamic", "per channel"),
    _ort("static, defaults", "defaults", "defaults"),
    _ort("static, MinMax", "minmax", "U8S8, per channel, MatMul, Gemm and Conv only"),
    _ort("static, Percentile", "percentile", "as MinMax, 99.99, every eighth image"),
    _ort("static, Entropy", "entropy", "as MinMax, every eighth image"),
    _nncf("for transformers", "transformer", "the defaults"),
    _nncf("full bias correction", "smallest_error", "fast_bias_correction=False"),
    _nncf("accuracy control", "accuracy_control", "agreement with float drops by 1 point at most"),
    Variant(
        "NNCF, ONNX file",
        "nncf",
        "nncf_tools",
        "onnx_file",
        "ModelType.TRANSFORMER, the defaults, an ONNX file in and out",
        engines=_BOTH,
    ),
    Variant(
        "Optimum, dynamic", "optimum", "optimum_tools", "dynamic", "avx512_vnni, per channel", _QUANTIZED
    ),
    Variant(
        "Optimum, static",
        "optimum",
        "optimum_tools",
        "static",
        "avx512_vnni, per channel, MinMax",
        _QUANTIZED,
    ),
    Variant("Neural Compressor, ONNX", "inc-onnx", "inc_onnx_tools", "static", "StaticQuantConfig, defaults"),
    Variant(
        "Neural Compressor, ONNX, SmoothQuant",
        "inc-onnx",
        "inc_onnx_tools",
        "smooth",
        "alpha 0.5, the default",
    ),
    Variant("ModelOpt, entropy", "modelopt", "modelopt_tools", "entropy", "int8, entropy, the default"),
    Variant("ModelOpt, max", "modelopt", "modelopt_tools", "largest", "int8, max"),
    Variant(
        "Quark, transformer default",
        "quark",
        "quark_tools",
        "default",
        "INT8_TRANSFORMER_DEFAULT, MinMax, 128 images",
    ),
    Variant(
        "Quark, transformer accurate",
        "quark",
        "quark_tools",
        "accurate",
        "INT8_TRANSFORMER_ACCURATE: percentile, AdaRound; every eighth image",
    ),
    Variant("Quark, A8W8", "quark", "quark_tools", "general", "A8W8"),
    Variant("Olive, dynamic", "olive", "olive_tools", "dynamic", "OnnxDynamicQuantization, per channel"),
    Variant("Olive, static", "olive", "olive_tools", "static", "OnnxStaticQuantization, defaults"),
    Variant(
        "Olive, static, as advised",
        "olive",
        "olive_tools",
        "advised",
        "uint8 activations, per channel, MatMul, Gemm and Conv only",
    ),
    Variant(
        "ExecuTorch, static", "executorch", "executorch_tools", "static", _XNNPACK, _PTE, ("ExecuTorch",)
    ),
    Variant(
        "ExecuTorch, dynamic", "executorch", "executorch_tools", "dynamic", _XNNPACK, _PTE, ("ExecuTorch",)
    ),
    Variant(
        "torchao, dynamic",
        "torchao",
        "torchao_tools",
        "dynamic",
        "Int8DynamicActivationInt8WeightConfig",
        _PT2,
        ("PyTorch",),
    ),
    Variant(
        "torchao, static",
        "torchao",
        "torchao_tools",
        "static",
        "X86InductorQuantizer, defaults",
        _PT2,
        ("PyTorch",),
    ),
    Variant(
        "Neural Compressor, PyTorch",
        "inc",
        "inc_tools",
        "static",
        "get_default_static_config",
        _PT2,
        ("PyTorch",),
    ),
    Variant("AIMET, min-max", "aimet", "aimet_tools", "minmax", "int8, min_max, the defaults"),
    Variant("AIMET, tf_enhanced", "aimet", "aimet_tools", "enhanced", "int8, tf_enhanced"),
    Variant("LiteRT, dynamic", "litert", "litert_tools", "dynamic", "dynamic_wi8_afp32", _LITE, ("LiteRT",)),
    Variant("LiteRT, static", "litert", "litert_tools", "static", "static_wi8_ai8", _LITE, ("LiteRT",)),
    Variant("onnxsim, static", "onnxsim", "onnxsim_tools", "static", "quantize_static, MinMax, per channel"),
    Variant(
        "onnxsim, budget search",
        "onnxsim",
        "onnxsim_tools",
        "budget",
        "30 dB, the default, judged on 16 images",
    ),
)

# What people ask for and no environment can be made of
ELSEWHERE = {"Kenosis": "a Rust program (kenosis-cli): there is no package of it on the Python index"}
