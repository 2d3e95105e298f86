"""Tables, intervals and the verdict of the denoising experiment, from records made by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL
from lipsplines.experiments.denoising import anchors, comparisons, studies, tables
from lipsplines.experiments.denoising import protocol as denoising
from tests.handmade import ORIGIN

IMAGES = 20
RIVALS = [(name, "orthogonal") for name in denoising.ACTIVATIONS if name != tables.OURS]
FREE = ("relu", "none")
RUNS = denoising.PROFILE_SIZES["reduced"].runs


def is_ours(cell: dict) -> bool:
    return cell["activation"] == tables.OURS


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
    gain: Callable[[dict], float] = lambda cell: 5.0 if is_ours(cell) else 4.0,
    images: int = IMAGES,
    study: str = "seeds",
) -> list[Record]:
    """All runs of a study; `gain` tells that of each from its settings."""
    return [
        record(cell, gain(cell), images)
        for cell in denoising.cells(profile)
        if denoising.study_of(cell) == study
    ]


def noisy_grid(shift: float) -> list[Record]:
    """Networks whose images scatter by 0.1 dB; those with splines are `shift` dB better."""
    random = np.random.default_rng(1)
    records = grid(gain=lambda cell: 4.0 + (shift if is_ours(cell) else 0.0), images=68)
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
        assert [r.settings["run"] for r in level[tables.OURS, "orthogonal"]] == list(range(RUNS))
        assert [r.settings["run"] for r in level[FREE]] == [0]


def test_quality_is_the_mean_over_images_with_the_range_of_the_runs() -> None:
    rows = rows_of(tables.quality_table(grid(gain=lambda cell: 4.0 + cell["run"])))
    assert rows["noisy"] == ["31.00"] * 3
    assert rows["Householder"] == ["38.50 [35.00, 42.00]"] * 3
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
    found = tables.differences(grid(gain=lambda cell: 4.3 if is_ours(cell) else 4.0))
    assert set(found) == {5, 10, 15}
    for level in found.values():
        assert set(level) == set(RIVALS)  # not the unconstrained network
        for difference in level.values():
            assert difference.value == pytest.approx(0.3)
            assert 0 < difference.low <= difference.high
            assert difference.low == pytest.approx(0.3)
            assert difference.word == "better"


def test_differences_have_a_sign_and_a_mode() -> None:
    records = grid(gain=lambda cell: 3.5 if is_ours(cell) else 4.0)
    worse = tables.differences(records)[5]["relu", "orthogonal"]
    assert worse.value == pytest.approx(-0.5)
    assert worse.word == "worse"
    equal = tables.differences(records, "averaged")[5]["relu", "orthogonal"]
    assert (equal.value, equal.low, equal.high, equal.word) == (0, 0, 0, "tie")
    assert rows_of(tables.differences_table(records))["ReLU"] == ["-0.50 [-0.50, -0.50] worse"] * 3
    text = tables.differences_table(records, "averaged")
    assert rows_of(text)["ReLU"] == ["+0.00 [+0.00, +0.00] tie"] * 3


def test_the_interval_holds_the_scatter_of_runs() -> None:
    """Half of the runs ahead, half behind by as much: a tie, however sure each run is."""

    def split(cell: dict) -> float:
        return 4.0 + (0.0 if not is_ours(cell) else 0.5 if cell["run"] % 2 else -0.5)

    found = tables.differences(grid(gain=split))[15]["absolute", "orthogonal"]
    assert found.value == pytest.approx(0)
    assert -0.5 <= found.low < -0.1
    assert 0.1 < found.high <= 0.5
    assert found.word == "tie"


def test_differences_use_the_runs_that_both_have() -> None:
    records = [
        r
        for r in grid(gain=lambda cell: 5.0 - cell["run"] if is_ours(cell) else 4.0)
        if r.settings["activation"] != "relu" or r.settings["run"] == 0
    ]
    found = tables.differences(records)[5]
    assert found["relu", "orthogonal"].value == pytest.approx(1.0)
    assert found["absolute", "orthogonal"].value == pytest.approx(1.0 - (RUNS - 1) / 2)


def test_a_word_for_a_difference() -> None:
    assert comparisons.Difference(0.1, -0.1, 0.3).word == "tie"
    assert comparisons.Difference(0.1, 0.0, 0.3).word == "tie"
    assert comparisons.Difference(0.1, 0.05, 0.3).word == "better"
    assert comparisons.Difference(-0.1, -0.3, -0.05).word == "worse"


def test_the_verdict_flips_with_the_planted_difference() -> None:
    assert "**confirmed**" in tables.verdict_text(noisy_grid(+0.2))
    assert "Ahead" not in tables.verdict_text(noisy_grid(+0.2))
    assert "**not confirmed**" in tables.verdict_text(noisy_grid(-0.2))
    assert "**undecided**" in tables.verdict_text(noisy_grid(0.0))


def test_one_rival_decides() -> None:
    """The splines are ahead of all, but for PReLU by its error at the middle level."""

    def planted(cell: dict) -> float:
        if is_ours(cell):
            return 5.0
        return 12.0 if (cell["activation"], cell["sigma"]) == ("prelu-maxmin", 10) else 4.0

    text = tables.verdict_text(grid(gain=planted))
    assert "**not confirmed** (5 of 6 comparisons hold, 1 fail)" in text
    assert "Ahead of the splines: PReLU, MaxMin start." in text


def test_the_free_network_takes_no_part() -> None:
    records = grid(gain=lambda c: 9.0 if c["constraint"] == "none" else 5.0 if is_ours(c) else 4.0)
    found = tables.comparisons(records)
    assert len(found) == 6
    assert found == tables.comparisons([r for r in records if r.settings["constraint"] != "none"])
    assert "**confirmed**" in tables.verdict_text(records)


def test_trainings_are_the_pairs() -> None:
    """However many images and noise levels describe each of them."""
    for images in (3, 68):
        for comparison in tables.comparisons(grid(images=images)):
            assert len(comparison.differences) == RUNS
            assert comparison.p_holds == pytest.approx(2.0**-RUNS)
            assert comparison.ratio == pytest.approx(10**-0.1)


def test_two_trainings_decide_nothing() -> None:
    found = tables.comparisons(grid("quick"))
    assert all(c.p_holds > LEVEL for c in found)
    assert "**undecided**" in tables.verdict_text(grid("quick"))


def test_only_one_study_is_compared() -> None:
    others = grid(gain=lambda cell: 9.0, study="network") + grid(study="first")
    assert tables.comparisons(grid() + others) == tables.comparisons(grid())


def test_the_verdict_needs_the_same_runs() -> None:
    records = [
        r for r in grid() if r.settings["activation"] != "absolute" or r.settings["run"] == 0
    ]
    with pytest.raises(ValueError, match="absolute value: ours has 8 trainings and the rival 1"):
        tables.comparisons(records)
    for useless in ([], [r for r in grid() if not r.settings["spline"]]):
        with pytest.raises(ValueError, match="of the splines and of every rival"):
            tables.comparisons(useless)
    with pytest.raises(ValueError, match="of the splines and of every rival"):
        tables.comparisons([r for r in grid() if r.settings["spline"]])


def test_the_study_with_the_largest_networks_is_shown() -> None:
    network, seeds, first = (grid(study=study) for study in comparisons.SHOWN)
    assert tables.shown([*first, *seeds, *network]) == network
    assert tables.shown([*first, *seeds]) == seeds
    assert tables.shown([*first, *seeds[:3]]) == first
    one_level = [r for r in seeds if r.settings["sigma"] == 10]
    bound = [r for r in seeds if r.settings["constraint"] != "none"]
    assert tables.shown([*first, *one_level]) == tables.shown([*first, *bound]) == first
    assert tables.shown(seeds[:3]) == seeds[:3]


def test_trials_and_budget_are_tables() -> None:
    records = grid(study="rates") + grid(study="budget")
    for one in records:
        one.metrics["curves"]["validation"] = [29.0, 30.0 + one.settings["lr"], 28.0]
        one.metrics["curves"]["step"] = [1_500, 3_000, 4_500]
    rows = rows_of(studies.rate_table(records))
    assert rows["ReLU"] == [f"{30 + rate:.2f}" for rate in denoising.RATES]
    assert len(rows) == 2 + len(denoising.ACTIVATIONS)
    long = grid(study="long rates")
    for one in long:
        one.metrics["curves"]["validation"] = [30.0 + one.settings["run"] % 2]
    assert rows_of(studies.rate_table(long, "long rates"))["ReLU"] == ["30.50"] * 3
    assert f"{len(long)} of {len(long)} (σ = 10)" in tables.reference_text([*grid(), *long])
    budget = rows_of(studies.budget_table(records))
    assert budget["steps"] == ["1,500", "3,000", "4,500"]
    assert set(budget) >= {"spline, identity start", "absolute value", "ReLU"}


def test_what_the_rates_of_the_runs_cost_is_told_once_all_trials_are_there() -> None:
    long = grid(study="long rates")
    for one in long:
        one.metrics["curves"]["validation"] = [30.0 if one.settings["lr"] == 1e-2 else 29.5]
    text = studies.rates_text(long)
    assert "4 of 8 are the best of their list" in text
    assert "in trials of 1,000 steps" in text
    assert text.count("0.50 dB (0.01, not 0.03)") == 4
    assert studies.rates_text(long[:-1]) == studies.rates_text(grid()) == ""


def test_the_comparisons_at_other_rates_take_what_is_not_trained_again_from_the_claims() -> None:
    again = grid(study="tuned", gain=lambda cell: 4.5 if is_ours(cell) else 4.6)
    records = grid() + again
    (relu,) = (c for c in comparisons.comparisons(records, study="tuned") if c.label == "ReLU")
    assert relu.ratio == pytest.approx(10**-0.05)  # 4.5 dB against 4 dB of the study ``seeds``
    assert comparisons.comparisons(records) == comparisons.comparisons(grid())
    text, table = studies.tuned_text(records).split("\n\n")
    assert "spline, identity start is ahead of ReLU, behind " in text
    assert f"({len(again)} more trainings" in text
    rows = rows_of(table)
    assert rows["spline, identity start / ReLU"][:2] == [f"{10**-0.1:.3f}", f"{10**-0.05:.3f}"]
    assert rows["spline, identity start / Householder"][:2] == ["0.794", f"{10**0.01:.3f}"]
    assert len(rows) == 2 + 2 * 6
    assert studies.tuned_text(records[:-1]) == studies.tuned_text(grid()) == ""
    assert studies.tuned_text(again) == ""  # nothing to compare with


def test_a_part_of_the_networks_of_the_papers_size_stands_beside_the_claims() -> None:
    own = grid(study="network")
    own[0].metrics["curves"]["validation"] = [30, 20, 31, 31.5, 31.25, 31.4]  # falls early and late
    text = studies.network_text([*grid(), *own[:4]])
    name = tables.label((own[0].settings["activation"], "orthogonal"))
    assert f"by up to 0.25 dB with {name} (rate {own[0].settings['lr']:g}); 0.00 dB" in text
    assert f"4 of {len(own)} runs" in text
    assert "64 channels" in text
    assert text in tables.reference_text([*grid(), *own[:4]])
    assert studies.network_text([*grid(), *own]) == ""  # then the tables are of these networks
    assert studies.network_text(grid()) == ""


def test_each_noise_level_by_itself() -> None:
    rows = rows_of(tables.level_text(grid()).partition("\n\n")[2])
    names = {comparisons.label(kind) for kind in RIVALS if "spline" not in kind[0]}
    assert set(rows) > names
    level = [r for r in grid() if r.settings["sigma"] == 10]
    (relu,) = (c for c in tables.comparisons(level) if c.label == "ReLU")
    assert rows["ReLU"][1] == f"{relu.ratio:.3f} ({relu.p_holds:.2g})"
    assert tables.level_text(grid()[:-3]) == tables.level_text([]) == ""  # never a part of the runs


def test_printed_bounds_still_bound() -> None:
    rows = rows_of(tables.certificate_table(grid()))
    assert rows["Householder"] == [f"{3 * RUNS}", "0.987 to 0.987", "1.000002"]
    assert rows["ReLU, unconstrained"] == ["3", "3.141 to 3.141", "12.4"]


def test_region_table_counts_all_runs() -> None:
    rows = rows_of(tables.region_table(grid()))
    assert rows["10"] == [str(RUNS), str(8 * RUNS), "50", "4 [3, 6]", "20", "38%"]
    assert set(rows) >= {"5", "10", "15"}


def test_anchors_are_for_the_berkeley_images_alone() -> None:
    for profile in ("smoke", "quick"):
        with pytest.raises(ValueError, match="records are of other images"):
            anchors.anchor_table(grid(profile), "direct")


def test_anchors_keep_their_mode() -> None:
    direct, averaged = (rows_of(anchors.anchor_table(grid(), mode)) for mode in tables.MODES)
    only = {anchor.name for anchor in anchors.ANCHORS if anchor.mode == "averaged"}
    assert only
    assert only <= set(averaged)
    assert not only & set(direct)
    others = {anchor.name for anchor in anchors.ANCHORS if anchor.mode == "other"}
    assert others <= set(direct)
    assert others <= set(averaged)
    assert direct["spline, identity start: D(y)"] == ["36.00"] * 3 + ["these records"]
    assert averaged["ReLU: (y + D(y)) / 2"] == ["32.00"] * 3 + ["these records"]


def test_every_anchor_has_a_source_and_a_known_mode() -> None:
    for anchor in anchors.ANCHORS:
        assert anchor.mode in (*tables.MODES, "other")
        assert anchor.source
        assert anchor.psnr
        assert set(anchor.psnr) <= {5, 10, 15, 25}


def test_reference_text_says_what_was_run() -> None:
    assert "No record" in tables.reference_text([])
    reduced = tables.reference_text(grid())
    own, paper = (denoising.PROFILE_SIZES[p] for p in ("reduced", "paper"))
    count = len(denoising.cells("reduced"))
    assert f"{len(grid())} of {count} runs" in reduced
    assert "of the study *seeds*, tested on 20 images" in reduced
    assert "not the sizes of the paper" in reduced
    assert f"{own.channels} channels (the paper's {paper.channels})" in reduced
    steps = f"{own.steps:,} steps of {own.batch_size} patches (the paper's {paper.steps:,}"
    assert steps in reduced
    assert "**confirmed**" in reduced
    assert reduced.index("*Direct*") < reduced.index("*Averaged*")
    assert "not the sizes" not in tables.reference_text(grid("paper"))
    some = tables.reference_text(grid()[:1])
    assert f"1 of {count} runs" in some
    assert "No verdict: The verdict needs records" in some
    assert "of the study *first*" in tables.reference_text(grid(study="first"))


def test_a_training_is_flat_if_its_last_fifth_adds_little() -> None:
    records = grid()
    assert "last fifth" not in tables.reference_text(records)  # compared once
    for place, record in enumerate(records):
        record.metrics["curves"] = {
            "step": [400, 800, 1_000],
            "loss": [0.1] * 3,
            "validation": [30.0, 29.0, 30.04 if place else 30.5],
        }
    text = tables.reference_text(records)
    assert "rose by 0.04 dB in the median, at most 0.50 dB" in text
    count = sum(r.settings.get("study") == "seeds" for r in records)
    assert f"for {count - 1} of {count} networks by less than 0.05 dB" in text


def test_trainings_with_splines_may_differ_more_than_others() -> None:
    records = [r for r in grid() if r.settings.get("study") == "seeds"]
    for record in records:
        s = record.settings
        wide = s["activation"].startswith("spline-")
        level = 30.0 + s["run"] % 2 * (0.6 if wide else 0.2)
        record.metrics["direct"]["psnr"] = [level] * len(record.metrics["direct"]["psnr"])
    own = np.std([0.0, 1.0] * (RUNS // 2), ddof=1)
    text = tables.spread_text(records)
    assert f"{0.6 * own:.2f} to {0.6 * own:.2f} dB with splines" in text
    assert f"{0.2 * own:.2f} to {0.2 * own:.2f} dB with the other" in text
    assert tables.spread_text(records[:1]) == ""
