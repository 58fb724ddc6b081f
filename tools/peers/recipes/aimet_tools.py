"""Qualcomm's AIMET on an ONNX file: its simulation of quantization, written as a file with Q and DQ."""


def quantize(job, scheme):
    import onnx
    from aimet_onnx import QuantizationSimModel

    simulated = QuantizationSimModel(onnx.load(job.float_model), quant_scheme=scheme)
    simulated.compute_encodings({"pixel_values": image[None]} for image in job.calibration)
    onnx.save(simulated.to_onnx_qdq(prequantize_constants=True), job.output / "model.onnx")


def minmax(job):
    quantize(job, "min_max")


def enhanced(job):
    quantize(job, "tf_enhanced")
