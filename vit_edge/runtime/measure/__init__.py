"""Latency, memory and profiles of models on this machine, always interleaved.

Nothing here judges accuracy; `evaluate` does.
"""
