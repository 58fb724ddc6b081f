"""Vectors of length 1, in operators that the canonical graph knows."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_EPSILON = 1e-12  # of a mean square


def unit(vector: Tensor) -> Tensor:
    """Vectors (N, D) brought to length 1.

    Written as the first half of a LayerNormalization of (x, -x), whose mean is zero and whose variance is
    |x|^2 / D: an operator that the canonical graph knows and that is quantized around as any other.
    """
    dim = vector.shape[1]
    both = torch.cat([vector, vector * -1.0], 1)  # the contract knows Mul, not Neg
    first, _ = torch.split(F.layer_norm(both, both.shape[1:], eps=_EPSILON), dim, dim=1)
    return first * (1.0 / math.sqrt(dim))
