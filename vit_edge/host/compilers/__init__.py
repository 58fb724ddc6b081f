"""Compilers of others, each in an environment of its own: a file and its types in, their format out."""
