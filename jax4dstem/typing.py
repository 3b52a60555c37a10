"""Array types shared by all modules; shapes are checked at run time in the tests."""

from typing import TypeAlias

from jaxtyping import Array, Bool, Float, Inexact, Int, Num, Real

Pattern: TypeAlias = Real[Array, "det_y det_x"]
FloatPattern: TypeAlias = Float[Array, "det_y det_x"]
Mask: TypeAlias = Real[Array, "det_y det_x"] | Bool[Array, "det_y det_x"]
Point: TypeAlias = Float[Array, "2"]
Scalar: TypeAlias = Float[Array, ""] | float | int

__all__ = [
    "Array",
    "Bool",
    "Float",
    "FloatPattern",
    "Inexact",
    "Int",
    "Mask",
    "Num",
    "Pattern",
    "Point",
    "Real",
    "Scalar",
]
