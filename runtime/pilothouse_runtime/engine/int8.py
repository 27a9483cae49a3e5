"""Linear layers in whole numbers of 8 bits: weights are converted when the model is loaded, inputs in each run.

Every row of a weight and every row of an input has a scale of its own, so that rows of a batch do not know of each
other: their answers are the same alone and together.
"""

from __future__ import annotations

from typing import Final

import torch

_ONEDNN: Final = torch.ops.onednn
_LARGEST: Final = 127
_MIDDLE: Final = 128
_TINY: Final = 1e-12


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight [outputs, inputs] as oneDNN wants it, and what each of its rows was divided by."""
    with torch.no_grad():
        scales = weight.detach().abs().amax(1).clamp(min=_TINY) / _LARGEST
        whole = (weight.detach() / scales[:, None]).round().to(torch.int8)
        return _ONEDNN.qlinear_prepack(whole, None), scales


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Return x [..., inputs] times a quantized weight, plus a bias: [..., outputs]."""
    divisor = x.abs().amax(-1, keepdim=True).clamp_(min=_TINY).div_(_LARGEST)
    # oneDNN has fast kernels for inputs without a sign only.
    whole = (x / divisor).round_().add_(_MIDDLE).to(torch.uint8)
    product: torch.Tensor = _ONEDNN.qlinear_pointwise(
        whole, 1.0, _MIDDLE, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    product.mul_(divisor)
    return product if bias is None else product.add_(bias)
