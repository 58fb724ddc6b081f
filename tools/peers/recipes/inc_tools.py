"""Intel's Neural Compressor for PyTorch: static quantization of an exported program."""


def static(job):
    import torch
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import convert, get_default_static_config, prepare
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(job.folder).eval()
    example = (torch.from_numpy(job.calibration[:1].copy()),)
    prepared = prepare(export(model, example_inputs=example), get_default_static_config())
    for image in job.calibration:
        prepared(torch.from_numpy(image[None].copy()))
    exported = torch.export.export(convert(prepared), example)
    torch.export.save(exported, job.output / "model.pt2")
