"""vit_edge: takes a trained Vision Transformer to an edge device and proves that nothing was lost."""
