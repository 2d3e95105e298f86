"""The strip that readers fold, in a browser: the error it tells is the library's."""

from __future__ import annotations

import pytest

from lipsplines.theory import strips

PAGE = "notebooks/price_of_monotone.html"


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_the_sliders_fold_the_strip(visit, size: str) -> None:
    made = visit(PAGE, size)
    assert made.overflow() <= 0
    folds, radius = (made.page.locator("#folding input").nth(k) for k in range(2))
    readout = made.page.locator("#folding .live-readout")
    for count, width in ((3, 10.0), (7, 30.0)):
        folds.fill(str(count))
        radius.fill(str(width))
        error = strips.fold_strip(width, folds=count).error
        assert f"{count} folds, R = {width}: error {error:.2g};" in readout.text_content()
    assert made.page.locator(".folding-picture .before").count() == 7
