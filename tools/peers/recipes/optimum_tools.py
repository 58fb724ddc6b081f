"""Optimum's quantizer of ONNX files, as its examples of image classification use it."""


def static(job):
    from datasets import Dataset
    from optimum.onnxruntime import (
        AutoCalibrationConfig,
        AutoQuantizationConfig,
        ORTModelForImageClassification,
        ORTQuantizer,
    )

    model = ORTModelForImageClassification.from_pretrained(job.folder, export=True)
    quantizer = ORTQuantizer.from_pretrained(model)
    images = Dataset.from_dict({"pixel_values": [image.tolist() for image in job.calibration]})
    ranges = quantizer.fit(images, AutoCalibrationConfig.minmax(images))
    config = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)
    quantizer.quantize(config, job.output, calibration_tensors_range=ranges)


def dynamic(job):
    from optimum.onnxruntime import AutoQuantizationConfig, ORTModelForImageClassification, ORTQuantizer

    model = ORTModelForImageClassification.from_pretrained(job.folder, export=True)
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(model).quantize(config, job.output)
