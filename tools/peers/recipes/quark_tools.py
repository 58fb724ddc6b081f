"""AMD's Quark on an ONNX file, with the configurations that it has for transformers."""


class Reader:
    """One calibration image after another."""

    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"pixel_values": image[None]}


def quantize(job, name, images):
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    quantizer = ModelQuantizer(Config(global_quant_config=get_default_config(name)))
    target = str(job.output / "model.onnx")
    quantizer.quantize_model(str(job.float_model), target, Reader(images))


def default(job):
    quantize(job, "INT8_TRANSFORMER_DEFAULT", job.calibration)


def accurate(job):
    # Its percentiles keep every activation of every image
    quantize(job, "INT8_TRANSFORMER_ACCURATE", job.calibration[::8])


def general(job):
    quantize(job, "A8W8", job.calibration)
