"""Vision transformers whose parts differ from the plain one: towers of CLIP, SigLIP, EVA-02, DINOv3."""
