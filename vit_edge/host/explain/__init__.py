"""Explanations that take gradients, and so torch; those that do not are in `runtime.explain`."""
