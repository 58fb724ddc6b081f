"""LiteRT: a PyTorch model converted, and quantized as a file by LiteRT's quantizer."""


def quantizer(job, recipe):
    import litert_torch
    import torch
    from litert_quantizer import quantizer
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(job.folder).eval()
    path = str(job.output.parent / "float.tflite")
    litert_torch.convert(model, (torch.from_numpy(job.calibration[:1].copy()),)).export(path)
    return quantizer.Quantizer(path, recipe)


def static(job):
    from litert_quantizer import recipe

    made = quantizer(job, recipe.static_wi8_ai8())
    images = [{"args_0": image[None]} for image in job.calibration]
    seen = made.calibrate({"serving_default": images}, num_threads=1)
    made.quantize(seen).export_model(str(job.output / "model.tflite"))


def dynamic(job):
    from litert_quantizer import recipe

    quantizer(job, recipe.dynamic_wi8_afp32()).quantize().export_model(str(job.output / "model.tflite"))
