"""Activations and arithmetic of heads, element by element, and the operators that have a slope of zero."""

import functools
import operator
from collections.abc import Callable, Mapping

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edge.host.operators.shared import Given, Operator, each, flat, needed, optional
from vit_edge.host.rewrite.values import integer, number


def _clip(_: ir.Node, given: Given) -> Tensor:
    x, low, high = needed(given, 0), optional(given, 1), optional(given, 2)
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _shaped(function: Callable[..., Tensor], **defaults: float) -> Operator:
    """An activation with numbers among its attributes, in the order in which the function takes them."""

    def made(node: ir.Node, given: Given) -> Tensor:
        return function(needed(given, 0), *(number(node, key, value) for key, value in defaults.items()))

    return made


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp_max(0)))


def _celu(x: Tensor, alpha: float) -> Tensor:
    return x.clamp_min(0) + alpha * torch.expm1(x.clamp_max(0) / alpha)


def _elu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp_max(0)))


def _slope_below(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _power(x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent).to(x.dtype)  # the result has the type of the base


def _sum(*given: Tensor) -> Tensor:
    return functools.reduce(operator.add, given)


def _mean(*given: Tensor) -> Tensor:
    return _sum(*given) / len(given)


def _smallest(*given: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, given)


def _log_softmax(node: ir.Node, given: Given) -> Tensor:
    return torch.log_softmax(needed(given, 0), integer(node, "axis", -1))


OPERATORS: Mapping[str, Operator] = {
    "Celu": _shaped(_celu, alpha=1.0),
    "Clip": _clip,
    "Cos": each(torch.cos),
    "Elu": _shaped(_elu, alpha=1.0),
    "HardSigmoid": _shaped(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1), alpha=0.2, beta=0.5),
    "LeakyRelu": _shaped(lambda x, alpha: torch.where(x < 0, alpha * x, x), alpha=0.01),
    "Log": each(torch.log),
    "LogSoftmax": _log_softmax,
    "Mean": each(_mean),
    "Min": each(_smallest),
    "Mish": each(F.mish),
    "Neg": each(torch.neg),
    "PRelu": each(_slope_below),
    "Pow": each(_power),
    "Selu": _shaped(_selu, alpha=1.6732631921768188, gamma=1.0507010221481323),
    "Sin": each(torch.sin),
    "Softplus": each(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "Softsign": each(F.softsign),
    "Sum": each(_sum),
    "ThresholdedRelu": _shaped(lambda x, alpha: torch.where(x > alpha, x, torch.zeros_like(x)), alpha=1.0),
    "Where": each(torch.where),
    # What they give are places, truths and whole numbers: their slope is zero wherever they have one.
    **dict.fromkeys(("ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual"), flat),
    **dict.fromkeys(("IsInf", "IsNaN", "Less", "LessOrEqual", "Round", "Shape", "Sign", "Size"), flat),
}
