"""OpenVINO, on one thread of the CPU, with the precision that it chooses itself beside INT8."""

import openvino


def version():
    return f"OpenVINO {openvino.__version__}"


def load(path, options):
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"} | options
    core = openvino.Core()
    model = core.read_model(path)
    if model.input(0).partial_shape[0].is_dynamic:
        model.reshape([1, *(dimension.get_length() for dimension in model.input(0).partial_shape[1:])])
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda image: request.infer([image])[0]
