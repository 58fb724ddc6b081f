"""onnxruntime's own quantizers, as its documentation of quantization shows them."""


class Reader:
    """One calibration image after another."""

    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"pixel_values": image[None]}


def prepared(job):
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = job.output.parent / "prepared.onnx"
    quant_pre_process(job.float_model, path)
    return path


def dynamic(job):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(prepared(job), job.output / "model.onnx", per_channel=True)


def defaults(job):
    from onnxruntime.quantization import quantize_static

    quantize_static(prepared(job), job.output / "model.onnx", Reader(job.calibration))


def careful(job, images, method, **options):
    """As the documentation advises for x86-64, U8S8, and of the operators the products alone."""
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    quantize_static(
        prepared(job),
        job.output / "model.onnx",
        Reader(images),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Conv"],
        calibrate_method=CalibrationMethod[method],
        extra_options=options,
    )


def minmax(job):
    careful(job, job.calibration, "MinMax")


def percentile(job):
    # Its calibrator keeps every activation of every image: 55 MB per image of ViT-Tiny
    careful(job, job.calibration[::8], "Percentile", CalibPercentile=99.99)


def entropy(job):
    careful(job, job.calibration[::8], "Entropy")
