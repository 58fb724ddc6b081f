"""onnxsim's static quantization, and its search for which activations need more than eight bits."""


def simplified(job):
    import onnxsim

    shape = [1, *job.calibration.shape[1:]]
    model, _ = onnxsim.simplify(str(job.float_model), overwrite_input_shapes={"pixel_values": shape})
    return model, [{"pixel_values": image[None]} for image in job.calibration]


def static(job):
    import onnx
    import onnxsim

    model, data = simplified(job)
    onnx.save(onnxsim.quantize_static(model, data), job.output / "model.onnx")


def budget(job):
    import onnx
    from onnxsim.activation_sensitivity import search_activation_precision_for_budget

    model, data = simplified(job)
    found = search_activation_precision_for_budget(model, data, data[:16])
    onnx.save(found.model, job.output / "model.onnx")
