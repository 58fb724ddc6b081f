"""NVIDIA's Model Optimizer on an ONNX file, calibrated on the CPU, since there is no GPU."""


def entropy(job):
    import modelopt.onnx.quantization as moq

    moq.quantize(
        str(job.float_model),
        calibration_data={"pixel_values": job.calibration},
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(job.output / "model.onnx"),
    )


def largest(job):
    import modelopt.onnx.quantization as moq

    moq.quantize(
        str(job.float_model),
        calibration_data={"pixel_values": job.calibration},
        calibration_method="max",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(job.output / "model.onnx"),
    )
