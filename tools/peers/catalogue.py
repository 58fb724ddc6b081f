"""The other quantizers: what is installed for each, what is run, and which engine runs what it makes."""

from tools.peers.environments import Environment

ORT = "onnxruntime==1.32.0"
ONNX = "onnx==1.23.2"

ENVIRONMENTS = {
    each.name: each
    for each in (
        Environment("onnxruntime", (ORT, ONNX, "sympy==1.14.0"), "onnxruntime.quantization"),
        Environment("nncf", ("nncf==3.4.0", "openvino==2026.4.1", ONNX, ORT), "nncf"),
        Environment("optimum", ("optimum-onnx[onnxruntime]==0.1.0",), "optimum.onnxruntime"),
        Environment("inc-onnx", ("onnx-neural-compressor==1.0",), "onnx_neural_compressor.quantization"),
        Environment("modelopt", ("nvidia-modelopt[onnx]==0.47.0",), "modelopt.onnx.quantization"),
        Environment("quark", ("amd-quark==0.13", ORT, ONNX, "torch==2.13.0"), "quark.onnx"),
        Environment("onnxsim", ("onnxsim==0.8.1", ORT), "onnxsim"),
        Environment("olive", ("olive-ai==0.13.0", ORT, ONNX), "olive"),
        Environment("aimet", ("aimet-onnx==2.42.0",), "aimet_onnx"),
        Environment("torchao", ("torchao==0.18.0", "torch==2.13.0", "transformers==5.23.0"), "torchao"),
        Environment(
            "executorch", ("executorch==1.5.1", "torch==2.13.0", "transformers==5.23.0"), "executorch.exir"
        ),
        Environment(
            "inc", ("neural-compressor-pt==3.10", "torch==2.13.0", "transformers==5.23.0"), "neural_compressor.torch"
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
