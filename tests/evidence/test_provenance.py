"""Where records come from."""

from __future__ import annotations

import torch

from lipsplines.evidence.provenance import code_fingerprint, provenance


def test_provenance_names_versions_and_code() -> None:
    entry = provenance(0.0, 1.23456, data="none")
    assert entry["started"] == "1970-01-01T00:00:00Z"
    assert entry["seconds"] == 1.235
    assert entry["torch"] == torch.__version__
    assert entry["data"] == "none"
    assert entry["code"] == code_fingerprint()
    assert entry["commit"] is None or len(entry["commit"]) == 40
