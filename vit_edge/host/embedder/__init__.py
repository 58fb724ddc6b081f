"""Embedders: the classifier's own graph, ending in embeddings instead of logits."""
