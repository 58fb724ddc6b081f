"""The machine itself: what it is, the user's cache on it, one lock that survives a fork.

Knows nothing of models or images; every other room of the runtime may ask it.
"""
