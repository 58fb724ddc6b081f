"""Post-training INT8 quantization of a canonical ViT: calibrate, decide per layer, write a plan."""
