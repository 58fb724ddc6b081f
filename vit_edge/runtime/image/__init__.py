"""From an image file to the pixels of a model: limits, decoding, preprocessing.

The host calibrates and checks through this room, too, so that both sides see the same pixels.
"""
