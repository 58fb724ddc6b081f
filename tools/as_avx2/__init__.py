"""An x86-64 machine with AVX-512 or VNNI made to look, to chosen libraries, as one that has AVX2 alone."""
