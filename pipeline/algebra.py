"""Linear equations whose map is known by what it does alone."""

from collections.abc import Callable

import torch
from torch import Tensor


def solved(linear: Callable[[Tensor], Tensor], wanted: Tensor, unknowns: int) -> Tensor:
    """The unknowns that a linear map takes to what is wanted, by conjugate gradients.

    M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952), on the normal
    equations; all in double precision.
    """

    def transposed(value: Tensor) -> Tensor:
        at = torch.zeros(unknowns, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(linear(at), at, value)[0]

    with torch.enable_grad():
        found = torch.zeros(unknowns, dtype=torch.float64)
        left = wanted.double()
        descent = direction = transposed(left)
        enough = 1e-28 * float(descent @ descent)
        while float(descent @ descent) > enough:
            image = linear(direction).detach()
            step = (descent @ descent) / (image * image).sum()
            found, left = found + step * direction, left - step * image
            steeper = transposed(left)
            direction = steeper + (steeper @ steeper) / (descent @ descent) * direction
            descent = steeper
    return found
