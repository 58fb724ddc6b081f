"""NNCF on a model of OpenVINO and on an ONNX file, with its preset for transformers."""


def converted(job):
    import openvino

    model = openvino.convert_model(job.float_model)
    model.reshape([1, *job.calibration.shape[1:]])
    return model


def transformer(job):
    import nncf
    import openvino

    data = nncf.Dataset(job.calibration, lambda image: image[None])
    count = len(job.calibration)
    model = nncf.quantize(converted(job), data, subset_size=count, model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(model, job.output / "model.xml")


def smallest_error(job):
    import nncf
    import openvino

    data = nncf.Dataset(job.calibration, lambda image: image[None])
    model = nncf.quantize(
        converted(job),
        data,
        subset_size=len(job.calibration),
        model_type=nncf.ModelType.TRANSFORMER,
        fast_bias_correction=False,
    )
    openvino.save_model(model, job.output / "model.xml")


def accuracy_control(job):
    """The images have no labels, so that accuracy is agreement with the float model."""
    import nncf
    import numpy as np
    import openvino

    model = converted(job)
    run = openvino.compile_model(model, "CPU")
    pairs = [(image[None], int(np.argmax(run(image[None])[0]))) for image in job.calibration]

    def validate(compiled, validation):
        return float(np.mean([np.argmax(compiled(image)[0]) == label for image, label in validation])), None

    model = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(pairs, lambda pair: pair[0]),
        nncf.Dataset(pairs),
        validate,
        max_drop=0.01,
        subset_size=len(pairs),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    openvino.save_model(model, job.output / "model.xml")


def onnx_file(job):
    import nncf
    import onnx

    data = nncf.Dataset(job.calibration, lambda image: {"pixel_values": image[None]})
    count = len(job.calibration)
    model = onnx.load(job.float_model)
    model = nncf.quantize(model, data, subset_size=count, model_type=nncf.ModelType.TRANSFORMER)
    onnx.save(model, job.output / "model.onnx")
