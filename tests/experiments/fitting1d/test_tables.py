"""Tables and claims of the one-dimensional fits."""

from __future__ import annotations

import pytest

from lipsplines.evidence.records import Store
from lipsplines.experiments.fitting1d import tables


def test_tables_and_claims(store: Store) -> None:
    records = store.select("fitting1d", "smoke")
    main = tables.main_records(records)
    assert len(main) == 66
    assert {len(c) for c in tables.claims(main).values()} == {6, 36}
    assert [weight for weight, _ in tables.sweep(records)["f2"]] == [0, 1e-7, 1e-6, 1e-5, 1e-4]
    assert all(len(panel) == 3 for panel in tables.variants(records).values())
    assert "not run" not in tables.error_table(main)
    assert "not run" in tables.error_table(main[:-1])
    assert "66 of the" in tables.reference_text(main)
    assert "No record" in tables.reference_text([])
    kept = [r for r in main if r.settings["activation"] != "relu"]
    with pytest.raises(ValueError, match="spline-relu and relu for f1"):
        tables.claims(kept)
    assert "**undecided** at this width" in tables.reference_text(kept)
    assert "lambda=0" in tables.text(records)
