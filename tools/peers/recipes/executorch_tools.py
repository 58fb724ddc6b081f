"""ExecuTorch's backend for CPUs, XNNPACK, quantized in PyTorch 2's export as its documentation shows."""


def quantize(job, **options):
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(job.folder).eval()
    example = (torch.from_numpy(job.calibration[:1].copy()),)
    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True, **options))
    prepared = prepare_pt2e(torch.export.export(model, example).module(), quantizer)
    for image in job.calibration:
        prepared(torch.from_numpy(image[None].copy()))
    exported = torch.export.export(convert_pt2e(prepared), example)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    (job.output / "model.pte").write_bytes(program.buffer)


def static(job):
    quantize(job)


def dynamic(job):
    quantize(job, is_dynamic=True)
