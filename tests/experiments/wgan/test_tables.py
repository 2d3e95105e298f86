"""Tables and the verdict of the Wasserstein GAN experiment, from records made by hand."""

from __future__ import annotations

import pytest

from lipsplines.evidence.decisions import smallest_p
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.wgan import EXPERIMENT, tables
from lipsplines.experiments.wgan import protocol as wgan
from lipsplines.runner.references import reference_records
from tests.handmade import ORIGIN

REAL = {
    "images": 400,
    "inception": {"value": 9.5, "low": 9.4, "high": 9.6},
    "frechet": {"value": 5.0, "low": 4.0, "high": 6.0},
}


def estimate(value: float, reach: float = 0.5) -> dict[str, float]:
    return {
        "value": value,
        "standard_error": reach / 2,
        "low": value - reach,
        "high": value + reach,
    }


def record(settings: dict, frechet: float, inception: float, dual: float = 8.0) -> Record:
    """A run with these numbers; the critic has the bound 4 if its convolutions are reshaped."""
    is_loose = settings["convolution"] == "reshaped"
    metrics = {
        "frechet": estimate(frechet),
        "inception": estimate(inception),
        "dual": estimate(4 * dual if is_loose else dual),
        "layers": {"model.0": 1.99991 if is_loose else 1.0, "model.2": 2.0 if is_loose else 1.0},
        "real": REAL,
    }
    bounds = {"lower": 3.9 if is_loose else 0.98765, "upper": 4.0 if is_loose else 1.0000011}
    return Record(settings, metrics, bounds, ORIGIN)


def grid(profile: str, order: tuple[str, ...] = wgan.ACTIVATIONS) -> list[Record]:
    """All runs of a profile; the activations are the better the earlier they are in `order`."""
    return [
        record(cell, 10.0 + 5 * place + cell["run"] / 4, 9.0 - place)
        for cell in wgan.cells(profile)
        for place in [order.index(cell["activation"])]
    ]


RUNS = wgan.PROFILE_SIZES["reduced"].runs
LAST = (*wgan.ACTIVATIONS[1:], wgan.ACTIVATIONS[0])


def test_a_span_is_the_mean_and_the_hull() -> None:
    own = tables.of_convolution(grid("reduced"))["spline-absolute"]
    assert tables.span(own, "frechet") == tables.Span(10.875, 9.5, 12.25)
    loose = tables.of_convolution(grid("reduced"), "reshaped")["spline-absolute"]
    assert tables.span(loose, "dual").value == 32
    assert tables.span(loose, "dual", divide=True).value == 8


def test_spans_that_meet_are_a_tie() -> None:
    span = tables.Span(1.0, 0.0, 2.0)
    assert span.overlaps(tables.Span(2.5, 2.0, 3.0))
    assert span.overlaps(tables.Span(1.0, 0.5, 0.6))
    assert not span.overlaps(tables.Span(3.0, 2.1, 4.0))


def test_runs_are_the_pairs() -> None:
    records = [r for r in grid("reduced") if r.settings["activation"] in (tables.OURS, "relu")]
    found = tables.comparisons(records, ["relu"])
    assert [c.p_holds for c in found] == [pytest.approx(2.0**-RUNS)] * 2
    assert tables.comparisons(grid("reduced"), ["relu"]) == found
    assert "ReLU, Fréchet distance" in found[0].label
    with pytest.raises(ValueError, match="the same runs"):
        tables.comparisons(records, ["absolute"])


def test_the_verdict_follows_the_ranks() -> None:
    """Among six: ReLU takes no part."""
    first, last = grid("reduced"), grid("reduced", LAST)
    assert [c.p_holds for c in tables.rank_comparisons(first)] == [pytest.approx(6.0**-RUNS)] * 2
    assert [c.p_fails for c in tables.rank_comparisons(last)] == [pytest.approx(6.0**-RUNS)] * 2
    assert "**confirmed**" in tables.verdict_text(first)
    assert "**not confirmed**" in tables.verdict_text(last)
    others = [name for name in wgan.ACTIVATIONS if name not in (tables.OURS, "relu")]
    middle = grid("reduced", (*others[:2], tables.OURS, *others[2:], "relu"))
    assert "**undecided**" in tables.verdict_text(middle)
    assert tables.ranks_table(first).count(", ".join("1" * RUNS)) == 2
    assert tables.ranks_table(middle).count(", ".join("3" * RUNS)) == 2
    assert "among 6" in tables.ranks_table(first)


def test_a_rival_that_is_always_last_changes_no_rank() -> None:
    with_relu = grid("reduced")
    without = [r for r in with_relu if r.settings["activation"] != "relu"]
    assert tables.rank_comparisons(with_relu) == tables.rank_comparisons(without)


def test_one_run_decides_nothing_and_says_so() -> None:
    one = grid("quick")
    assert smallest_p(tables.rank_comparisons(one)) == pytest.approx(2 / 6)
    sentence = tables.verdict_text(one)
    assert "**undecided**" in sentence
    assert "0.33, too large to decide anything" in sentence
    assert "below the level of 5%" in tables.verdict_text(grid("reduced"))


def test_the_reshaped_critic_takes_no_part() -> None:
    records = grid("reduced")
    without = [r for r in records if r.settings["convolution"] == "orthogonal"]
    assert tables.rank_comparisons(records) == tables.rank_comparisons(without)
    assert "reshaped" not in tables.pairs_table(records)


def test_a_missing_run_is_named() -> None:
    records = [
        r for r in grid("reduced") if r.settings["activation"] != "absolute" or r.settings["run"]
    ]
    with pytest.raises(
        ValueError, match=r"same runs of every activation.*spline-absolute: 8, absolute: 7"
    ):
        tables.rank_comparisons(records)
    with pytest.raises(ValueError, match="got spline-absolute: 0, absolute: 0"):
        tables.rank_comparisons([])
    with pytest.raises(ValueError, match="got spline-absolute: 8, absolute: 0"):
        tables.rank_comparisons(tables.of_convolution(grid("reduced"))["spline-absolute"])


def test_pairs_are_ties_where_intervals_meet() -> None:
    lines = tables.pairs_table(grid("reduced")).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = {name: outcomes for name, *outcomes in cells}
    assert rows["ReLU"] == ["better", "tie"]  # 12.25 below 14.5; 8.5 meets 8.5
    assert rows["Householder"] == ["better", "better"]
    worse = tables.pairs_table(grid("reduced", LAST))
    assert "worse" in worse
    assert "better" not in worse


def test_score_table_has_all_critics_and_real_digits() -> None:
    lines = tables.score_table(grid("reduced")).splitlines()
    assert len(lines) == 2 + 8 + 1
    assert "10.9 [9.5, 12.2]" in lines[2]
    assert "9.00 [8.50, 9.50]" in lines[2]
    assert "0.987 to 1.000002" in lines[2]  # rounded outward
    assert lines[9].startswith("| spline, absolute start, reshaped")
    assert lines[10].startswith("| 400 real digits")
    assert "5.00 [4.00, 6.00]" in lines[10]


def test_reading_names_the_first_of_each() -> None:
    records = grid("reduced")
    sentence = tables.reading(records)
    assert "spline, absolute start has the smallest Fréchet distance" in sentence
    assert "spline, absolute start has the largest Inception Score" in sentence
    assert "not trained the best" not in sentence
    loud = [
        record(r.settings, 50.0, 5.0, dual=9.0) if r.settings["activation"] == "relu" else r
        for r in records
    ]
    assert "ReLU has the largest dual on test digits" in tables.reading(loud)
    assert "has not trained the best generator" in tables.reading(loud)


def test_reshaped_table_divides_by_the_bound() -> None:
    line = tables.reshaped_table(grid("quick")).splitlines()[2]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == ["0", "2.0000", "2.0000", "3.900", "4.0000", "32.00", "8.00"]


def test_the_critic_that_is_not_1_lipschitz_is_told_apart() -> None:
    records = grid("reduced")
    text = tables.loose_text(records)
    assert f"In 0 of {RUNS} runs" in text
    assert "10 against 10" in text
    assert "bound is 4.00" in text
    better = [
        record(r.settings, 5.0, 9.0) if r.settings["convolution"] == "reshaped" else r
        for r in records
    ]
    assert f"In {RUNS} of {RUNS} runs" in tables.loose_text(better)
    assert tables.loose_text([r for r in records if r.settings["convolution"] != "reshaped"]) == ""


def test_reference_text() -> None:
    assert "No record" in tables.reference_text([])
    reduced = tables.reference_text(grid("reduced"))
    assert "64 of 64 runs" in reduced
    assert "not the sizes of the paper" in reduced
    assert "**confirmed**" in reduced
    assert "64 and 128 channels" in reduced
    assert "not the sizes" not in tables.reference_text(grid("paper"))
    some = tables.reference_text(grid("reduced")[:5])
    assert "5 of 64 runs" in some
    assert "No verdict" in some


def test_reference_records_prefer_the_sizes_of_the_paper(tmp_path) -> None:
    store = Store(tmp_path)
    assert reference_records(EXPERIMENT, store) == []
    reduced, paper = grid("reduced")[:2], grid("paper")[:1]
    for run in reduced:
        store.put(run)
    assert reference_records(EXPERIMENT, store) == reduced
    store.put(paper[0])
    assert reference_records(EXPERIMENT, store) == paper
