"""vit-edge itself, by its commands."""


def quantize(job, preset):
    import subprocess

    crop = [] if job.crop_pct is None else ["--crop-pct", str(job.crop_pct)]
    model, output = job.output.parent / "float.onnx", job.output / "model.onnx"
    subprocess.run(["vit-edge", "export", job.folder, *crop, "-o", model], check=True)
    subprocess.run(
        ["vit-edge", "quantize", model, "--calib", job.images, "--preset", preset, "-o", output], check=True
    )


def accurate(job):
    quantize(job, "accurate")


def balanced(job):
    quantize(job, "balanced")


def fast(job):
    quantize(job, "fast")


def static(job):
    quantize(job, "static")
