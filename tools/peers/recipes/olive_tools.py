"""Olive's passes of static and dynamic quantization, as a workflow of its own."""


def run(job, quantization, **others):
    import shutil

    import olive.workflows

    config = {
        "input_model": {"type": "OnnxModel", "model_path": str(job.float_model)},
        "passes": {"quantization": quantization},
        "cache_dir": str(job.output.parent / "cache"),
        "output_dir": str(job.output.parent / "olive"),
    } | others
    result = olive.workflows.run(config)
    shutil.copy(result.get_best_candidate().model_path, job.output / "model.onnx")


def static(job, **options):
    import torch
    from olive.data.registry import Registry

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(job.calibration)

        def __getitem__(self, index):
            return {"pixel_values": torch.from_numpy(job.calibration[index].copy())}, 0

    @Registry.register_dataset()
    def calibration_images(**_):
        return Images()

    data = [{"name": "calibration", "load_dataset_config": {"type": "calibration_images"}}]
    quantization = {"type": "OnnxStaticQuantization", "data_config": "calibration", **options}
    run(job, quantization, data_configs=data)


def advised(job):
    static(job, activation_type="uint8", per_channel=True, op_types_to_quantize=["MatMul", "Gemm", "Conv"])


def dynamic(job):
    run(job, {"type": "OnnxDynamicQuantization", "per_channel": True})
