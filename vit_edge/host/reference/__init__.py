"""The source's own pipeline, from an image file to a probability, and the proof that ours answers alike."""
