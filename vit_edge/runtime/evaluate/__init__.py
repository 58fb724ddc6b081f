"""Folders of images with or without labels, and two models compared on them.

Answers go to `verify` as arrays; the verdict is made there.
"""
