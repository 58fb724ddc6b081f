"""The classifier of classes that are only named: an image tower, and the embeddings of texts as its head.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021),
section 3.1.2; Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TOLERANCE = 1e-4  # share of the largest logit, of the one normalization in place of another
_EPSILON = 1e-12  # of a mean square that is about 1


class NamedClasses(nn.Module):
    """The image tower with the texts as a linear classifier: pixel_values (N, 3, H, W) to logits (N, C).

    The logits are `scale x / |x| . t + bias` for an embedding x and the normalised embeddings t of the texts.
    The normalization is written as a LayerNormalization of (x, -x), whose mean is zero and whose variance is
    |x|^2 / D: an operator that is quantized around as any other.

    Args:
        embed: the image tower, pixel_values to embeddings (N, D) of any length.
        texts: float32 (C, D), each of length 1.
        scale: of the products.
        bias: one number that is added to each of them, where the model has it.
    """

    def __init__(self, embed: nn.Module, texts: Tensor, scale: float, bias: Tensor | None) -> None:
        super().__init__()
        self.embed = embed
        classes, dim = texts.shape
        whole = scale / dim**0.5 / 2
        self.classifier = nn.Linear(2 * dim, classes, bias=bias is not None)
        self.classifier.weight = nn.Parameter(torch.cat([texts, -texts], 1) * whole)
        if bias is not None:
            self.classifier.bias = nn.Parameter(bias.detach().reshape(1).repeat(classes))

    def forward(self, pixel_values: Tensor, **more: bool) -> Tensor:
        """Logits (N, C)."""
        embedded = self.embed(pixel_values, **more)
        both = torch.cat([embedded, embedded * -1.0], 1)  # the contract knows Mul, not Neg
        logits: Tensor = self.classifier(F.layer_norm(both, both.shape[1:], eps=_EPSILON))
        return logits


def two_images(size: tuple[int, int]) -> Tensor:
    """Two images of noise (2, 3, height, width) on which towers and classifier are compared."""
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def distance(expected: Tensor, found: Tensor) -> float | None:
    """How far logits lie apart, where that is more than float32 explains; None where it is not."""
    apart = float((expected - found).abs().max())
    return None if apart <= _TOLERANCE * max(1.0, float(expected.abs().max())) else apart
