"""Linear splines on a uniform grid, as pure functions of tensors; nothing here knows modules."""

from lipsplines.splines.functions import (
    effective_regions,
    evaluate,
    knots,
    second_order_tv,
    slopes,
)
from lipsplines.splines.plain import spacing
from lipsplines.splines.projections import lipschitz_constant, normalize_slopes, project_slopes

__all__ = [
    "effective_regions",
    "evaluate",
    "knots",
    "lipschitz_constant",
    "normalize_slopes",
    "project_slopes",
    "second_order_tv",
    "slopes",
    "spacing",
]
