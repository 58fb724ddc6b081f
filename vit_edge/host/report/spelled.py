"""The manifest's keys as a reader wants to read them."""

KEYS = {
    "bias_correction": "biases corrected",
    "calibration_images": "calibration images",
    "chosen": "runs by default",
    "confidence_first": "confidence of the first judgement",
    "confidence_repaired": "confidence of each after it",
    "cosine": "cosine to float on average",
    "drop_at_most": "drop at most (points)",
    "elsewhere": "type of what is not integer",
    "files": "INT8 files",
    "float_products": "products in float",
    "folds": "scales moved into weights",
    "good_enough": "good enough to run",
    "integer_attention": "attention in integers",
    "integer_graph": "as onnxruntime runs it",
    "integer_products": "products in integers",
    "islands": "float products between integer ones",
    "kept": "INT8 model kept",
    "latency_ratio": "latency against float",
    "least_cosine": "least cosine to float",
    "looks": "quantizations judged",
    "looks_allowed": "judged at most",
    "mode": "repair",
    "ms": "ms per run",
    "narrowed": "operands of reduced range",
    "of": "columns in all",
    "probe_db": "logit SQNR reached on probe images (dB)",
    "probe_images": "probe images",
    "sensitivity_db": "logit SQNR alone in static INT8 (dB)",
    "shifted": "zero points moved, too",
    "size_mb": "size (MB)",
    "sqnr_db": "SQNR (dB)",
    "static_range": "range found by",
    "static_ranges": "layers by who found their range",
    "target_db": "logit SQNR aimed at (dB)",
    "timed_on_its_device": "timed on its device",
    "top1": "top-1 (%)",
    "top1_drop": "drop of top-1 (points)",
    "unfused": "conversions left unfused",
}


def spelled(key: str) -> str:
    """What to call a key of the manifest; a name of a file, a layer or a package stays as it is."""
    return KEYS.get(key, key)
