"""What an app calls: classifier and embedder, single images and batches.

The public names are exported by `vit_edge` itself.
"""
