"""Intel's Neural Compressor for ONNX files: static quantization, alone and after SmoothQuant."""


def reader(job):
    from onnx_neural_compressor import data_reader

    class Reader(data_reader.CalibrationDataReader):
        def __init__(self):
            self.rewind()

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"pixel_values": image[None]}

        def rewind(self):
            self.images = iter(job.calibration)

    return Reader()


def static(job):
    from onnx_neural_compressor.quantization import config, quantize

    settings = config.StaticQuantConfig(reader(job), calibration_sampling_size=len(job.calibration))
    quantize(str(job.float_model), str(job.output / "model.onnx"), settings)


def smooth(job):
    from onnx_neural_compressor.quantization import config, quantize

    options = {"SmoothQuant": True, "SmoothQuantCalibIter": len(job.calibration)}
    settings = config.StaticQuantConfig(
        reader(job), calibration_sampling_size=len(job.calibration), extra_options=options
    )
    quantize(str(job.float_model), str(job.output / "model.onnx"), settings)
