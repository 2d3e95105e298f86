"""Parts of records that are made by hand."""

ORIGIN = {
    "lipsplines": "1",
    "commit": "a" * 40,
    "dirty": False,
    "python": "3",
    "torch": "2",
    "numpy": "2",
    "device": "x",
    "started": "2026-01-01T00:00:00Z",
    "seconds": 1.0,
}
