"""onnxruntime, on one thread of the CPU."""

import onnxruntime


def version():
    return f"onnxruntime {onnxruntime.__version__}"


def load(path, options):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    for key, value in options.items():
        settings.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]
