"""From any exporter's ONNX graph to the canonical ViT graph, by small lossless rules.

The work has three stages. *Raise*: rules recognise what exporters write and replace it by a few composite
operators (see `composites`). *Fold*: exact algebra on the composites. *Lower*: each composite becomes
standard ONNX operators in the form that a target runs fastest. The order of the rules is the literal tuples
in `order`.
"""
