"""torchao: INT8 layers in place of PyTorch's, and static quantization of an exported program for x86-64."""


def dynamic(job):
    import torch
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(job.folder).eval()
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    example = (torch.from_numpy(job.calibration[:1].copy()),)
    torch.export.save(torch.export.export(model, example), job.output / "model.pt2")


def static(job):
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(job.folder).eval()
    example = (torch.from_numpy(job.calibration[:1].copy()),)
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, example).module(), quantizer)
    for image in job.calibration:
        prepared(torch.from_numpy(image[None].copy()))
    exported = torch.export.export(convert_pt2e(prepared), example)
    torch.export.save(exported, job.output / "model.pt2")
