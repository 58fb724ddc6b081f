"""Types and ranges of tensors, for compilers that quantize a float file by themselves."""
