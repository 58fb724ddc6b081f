"""A model file as bytes: its header and metadata, checked before any loader sees it.

Nothing here runs a model; sessions are made from what this room has read.
"""
