"""Tables, intervals and the verdict of the denoising experiment, from records made by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL
from lipsplines.experiments.denoising import protocol as denoising
from lipsplines.experiments.denoising import tables
from tests.handmade import ORIGIN

IMAGES = 20  # beyond a dozen, equal differences need no permutations for their p-value
RIVALS = [(name, "orthogonal") for name in denoising.ACTIVATIONS if name != tables.OURS]
FREE = ("relu", "none")


def scene(images: int = IMAGES) -> np.ndarray:
    """PSNR of each image before any network has a say: they differ by several dB."""
    return np.linspace(28.0, 34.0, images)


def record(settings: dict, gain: float, images: int = IMAGES) -> Record:
    """A run that lifts each image by this gain in direct mode, by 1 dB alone when averaged."""
    psnr = scene(images)
    metrics = {
        "images": [f"image{k}" for k in range(images)],
        "noisy": {"psnr": psnr.tolist(), "ssim": [0.7] * images},
        "direct": {"psnr": (psnr + gain).tolist(), "ssim": [0.9] * images},
        "averaged": {"psnr": (psnr + 1).tolist(), "ssim": [0.8] * images},
        "regions": {"1": [1, 2, 3, 4], "3": [5, 6, 7, 20]} if settings["spline"] else {},
        "curves": {"step": [1], "loss": [0.1], "validation": [30.0]},
    }
    is_free = settings["constraint"] == "none"
    bounds = (
        {"lower": 3.14159, "upper": 12.34} if is_free else {"lower": 0.98769, "upper": 1.0 + 1.1e-6}
    )
    return Record(settings, metrics, bounds, ORIGIN)


def grid(
    profile: str = "reduced",
    gain: Callable[[dict], float] = lambda cell: 5.0 if cell["spline"] else 4.0,
    images: int = IMAGES,
) -> list[Record]:
    """All runs of a profile; `gain` tells that of each from its settings."""
    return [record(cell, gain(cell), images) for cell in denoising.cells(profile)]


def noisy_grid(shift: float) -> list[Record]:
    """Networks whose images scatter by 0.1 dB; those with splines are `shift` dB better."""
    random = np.random.default_rng(1)
    records = grid(gain=lambda cell: 4.0 + (shift if cell["spline"] else 0.0), images=68)
    for one in records:
        scatter = random.normal(0, 0.1, 68)
        one.metrics["direct"]["psnr"] = (np.array(one.metrics["direct"]["psnr"]) + scatter).tolist()
    return records


def rows_of(table: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by the first of each row."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {name: cells for name, *cells in lines}


def test_runs_are_sorted_by_level_kind_and_number() -> None:
    levels = tables.runs_of(reversed(grid()))
    assert list(levels) == [5, 10, 15]
    for level in levels.values():
        assert set(level) == {(tables.OURS, "orthogonal"), FREE, *RIVALS}
        assert [r.settings["run"] for r in level[tables.OURS, "orthogonal"]] == [0, 1]
        assert [r.settings["run"] for r in level[FREE]] == [0]


def test_quality_is_the_mean_over_images_with_the_range_of_the_runs() -> None:
    rows = rows_of(tables.quality_table(grid(gain=lambda cell: 4.0 + cell["run"])))
    assert rows["noisy"] == ["31.00"] * 3
    assert rows["Householder"] == ["35.50 [35.00, 36.00]"] * 3
    assert rows["ReLU, unconstrained"] == ["35.00"] * 3


def test_a_quality_table_has_one_mode() -> None:
    records = grid()
    direct, averaged = (tables.quality_table(records, mode) for mode in tables.MODES)
    assert "32.00" not in direct
    assert rows_of(averaged)["Householder"] == ["32.00 [32.00, 32.00]"] * 3
    assert "35.00" not in averaged
    assert "36.00" not in averaged
    assert (
        rows_of(tables.quality_table(records, "averaged", "ssim"))["ReLU"]
        == ["0.8000 [0.8000, 0.8000]"] * 3
    )


def test_a_kind_without_runs_at_a_level_has_an_empty_cell() -> None:
    records = [r for r in grid() if not (r.settings["sigma"] == 10 and r.settings["spline"])]
    assert rows_of(tables.quality_table(records))["spline, identity start"][1] == ""


def test_differences_are_paired_over_images() -> None:
    """Images differ by 6 dB, the offset is 0.3 dB: only pairs show it."""
    found = tables.differences(grid(gain=lambda cell: 4.3 if cell["spline"] else 4.0))
    assert set(found) == {5, 10, 15}
    for level in found.values():
        assert set(level) == set(RIVALS)  # not the unconstrained network
        for difference in level.values():
            assert difference.value == pytest.approx(0.3)
            assert 0 < difference.low <= difference.high
            assert difference.low == pytest.approx(0.3)
            assert difference.word == "better"


def test_differences_have_a_sign_and_a_mode() -> None:
    records = grid(gain=lambda cell: 3.5 if cell["spline"] else 4.0)
    worse = tables.differences(records)[5]["relu", "orthogonal"]
    assert worse.value == pytest.approx(-0.5)
    assert worse.word == "worse"
    equal = tables.differences(records, "averaged")[5]["relu", "orthogonal"]
    assert (equal.value, equal.low, equal.high, equal.word) == (0, 0, 0, "tie")
    assert rows_of(tables.differences_table(records))["ReLU"] == ["-0.50 [-0.50, -0.50] worse"] * 3
    text = tables.differences_table(records, "averaged")
    assert rows_of(text)["ReLU"] == ["+0.00 [+0.00, +0.00] tie"] * 3


def test_the_interval_holds_the_scatter_of_runs() -> None:
    """One run ahead, the other behind by as much: a tie, however sure each run is."""

    def split(cell: dict) -> float:
        return 4.0 + (0.0 if not cell["spline"] else 0.5 if cell["run"] else -0.5)

    found = tables.differences(grid(gain=split))[15]["absolute", "orthogonal"]
    assert found.value == pytest.approx(0)
    assert (found.low, found.high) == pytest.approx((-0.5, 0.5))
    assert found.word == "tie"


def test_differences_use_the_runs_that_both_have() -> None:
    records = [
        r
        for r in grid(gain=lambda cell: 5.0 - cell["run"] if cell["spline"] else 4.0)
        if r.settings["activation"] != "relu" or r.settings["run"] == 0
    ]
    found = tables.differences(records)[5]
    assert found["relu", "orthogonal"].value == pytest.approx(1.0)
    assert found["absolute", "orthogonal"].value == pytest.approx(0.5)


def test_a_word_for_a_difference() -> None:
    assert tables.Difference(0.1, -0.1, 0.3).word == "tie"
    assert tables.Difference(0.1, 0.0, 0.3).word == "tie"
    assert tables.Difference(0.1, 0.05, 0.3).word == "better"
    assert tables.Difference(-0.1, -0.3, -0.05).word == "worse"


def test_the_verdict_flips_with_the_planted_difference() -> None:
    assert "**confirmed**" in tables.verdict_text(noisy_grid(+0.2))
    assert "Ahead" not in tables.verdict_text(noisy_grid(+0.2))
    assert "**not confirmed**" in tables.verdict_text(noisy_grid(-0.2))
    assert "**inconclusive**" in tables.verdict_text(noisy_grid(0.0))


def test_one_rival_at_one_level_decides() -> None:
    """The splines are ahead of all, but for PReLU at the middle level."""

    def planted(cell: dict) -> float:
        if cell["spline"]:
            return 5.0
        return 6.0 if (cell["activation"], cell["sigma"]) == ("prelu-maxmin", 10) else 4.0

    text = tables.verdict_text(grid(gain=planted))
    assert "**not confirmed** (14 of 15 comparisons hold, 1 fail)" in text
    assert "Ahead of the splines: σ = 10: PReLU, MaxMin start." in text


def test_the_free_network_takes_no_part() -> None:
    records = grid(gain=lambda c: 9.0 if c["constraint"] == "none" else 5.0 if c["spline"] else 4.0)
    found = tables.comparisons(records)
    assert len(found) == 15
    assert found == tables.comparisons([r for r in records if r.settings["constraint"] != "none"])
    assert "**confirmed**" in tables.verdict_text(records)


def test_a_comparison_has_the_largest_p_of_its_runs() -> None:
    """One run without any difference: the other cannot make up for it."""
    good = grid(gain=lambda cell: 5.0 if cell["spline"] else 4.0)
    half = grid(gain=lambda cell: 5.0 if cell["spline"] and cell["run"] == 0 else 4.0)
    alone = [r for r in half if r.settings["run"] == 0]
    for both, one, two in zip(*map(tables.comparisons, (good, alone, half)), strict=True):
        assert (one.p_holds, one.p_fails) == (1.0, 1.0)  # one training decides nothing
        assert both.p_holds < 1e-3
        assert both.p_holds < 1e-4
        assert two.p_holds == 1.0
    assert "**inconclusive**" in tables.verdict_text(half)


def test_three_images_decide_nothing() -> None:
    found = tables.comparisons(grid("quick", images=3))
    assert all(c.p_holds > LEVEL for c in found)
    assert "**inconclusive**" in tables.verdict_text(grid("quick", images=3))


def test_the_verdict_needs_the_same_runs() -> None:
    records = [
        r for r in grid() if r.settings["activation"] != "absolute" or r.settings["run"] == 0
    ]
    message = "at σ = 5 there are 2 of the splines and 1 of absolute value"
    with pytest.raises(ValueError, match=message):
        tables.comparisons(records)
    with pytest.raises(ValueError, match="there are 0 of the splines and 2 of ReLU"):
        tables.comparisons([r for r in grid() if not r.settings["spline"]])
    for useless in ([], [r for r in grid() if r.settings["spline"]]):
        with pytest.raises(ValueError, match="of the splines and of a rival"):
            tables.comparisons(useless)


def test_printed_bounds_still_bound() -> None:
    rows = rows_of(tables.certificate_table(grid()))
    assert rows["Householder"] == ["6", "0.987 to 0.987", "1.000002"]
    assert rows["ReLU, unconstrained"] == ["3", "3.141 to 3.141", "12.4"]


def test_region_table_counts_the_first_run() -> None:
    rows = rows_of(tables.region_table(grid()))
    assert rows["10"] == ["8", "50", "4 [3, 6]", "20", "38%"]
    assert set(rows) >= {"5", "10", "15"}


def test_anchors_are_for_the_berkeley_images_alone() -> None:
    for profile in ("smoke", "quick"):
        with pytest.raises(ValueError, match="records are of other images"):
            tables.anchor_table(grid(profile), "direct")


def test_anchors_keep_their_mode() -> None:
    direct, averaged = (rows_of(tables.anchor_table(grid(), mode)) for mode in tables.MODES)
    only = {anchor.name for anchor in tables.ANCHORS if anchor.mode == "averaged"}
    assert only
    assert only <= set(averaged)
    assert not only & set(direct)
    others = {anchor.name for anchor in tables.ANCHORS if anchor.mode == "other"}
    assert others <= set(direct)
    assert others <= set(averaged)
    assert direct["spline, identity start: D(x)"] == ["36.00"] * 3 + ["these records"]
    assert averaged["ReLU: (x + D(x)) / 2"] == ["32.00"] * 3 + ["these records"]


def test_every_anchor_has_a_source_and_a_known_mode() -> None:
    for anchor in tables.ANCHORS:
        assert anchor.mode in (*tables.MODES, "other")
        assert anchor.source
        assert anchor.psnr
        assert set(anchor.psnr) <= {5, 10, 15, 25}


def test_reference_text_says_what_was_run() -> None:
    assert "No record" in tables.reference_text([])
    reduced = tables.reference_text(grid())
    own, paper = (denoising.PROFILE_SIZES[p] for p in ("reduced", "paper"))
    assert "39 of 39 runs, tested on 20 images" in reduced
    assert "not the sizes of the paper" in reduced
    assert f"{own.channels} channels and not {paper.channels}" in reduced
    assert f"{own.steps:,} steps of {own.batch_size} patches and not {paper.steps:,}" in reduced
    assert f"begins at {own.lr:g} (without constraint: {own.free_lr:g})" in reduced
    assert "**confirmed**" in reduced
    assert reduced.index("*Direct*") < reduced.index("*Averaged*")
    assert "not the sizes" not in tables.reference_text(grid("paper"))
    some = tables.reference_text(grid()[:3] + grid()[21:22])
    assert "4 of 39 runs" in some
    assert "No verdict: The verdict needs the same runs" in some
