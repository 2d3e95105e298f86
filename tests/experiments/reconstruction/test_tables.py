"""Tables and the verdict of the reconstruction experiment, from records made by hand."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from lipsplines.evidence.records import Record
from lipsplines.experiments.reconstruction import comparisons, tables
from lipsplines.experiments.reconstruction import protocol as reconstruction
from lipsplines.export.denoisers import SECOND
from tests.handmade import ORIGIN

LEVELS = {
    "linear": 20.0,
    "tv": 25.0,
    "convex": 26.0,
    "weakly-convex": 26.5,
    **dict.fromkeys(reconstruction.DENOISERS, 29.0),
    SECOND: 30.0,
}


def record(settings: dict, psnr: float) -> Record:
    """A run with this PSNR on its images, a little more on each further one."""
    names = (
        [settings["image"]] if settings["image"] else list(range(settings["images_tested"] or 1))
    )
    names = list(map(str, names))
    images = {
        name: {
            "psnr": psnr + 0.1 * (place % 4),
            "ssim": psnr / 40,
            "snr": psnr - 5,
            "iterations": 30,
            "converged": place == 0,
            "diverged": False,
            "seconds_per_iteration": 0.02,
            "residuals": [1.0, 0.5],
        }
        for place, name in enumerate(names)
    }
    method = settings["method"]
    tuned = {"linear": [], "tv": [1e-3]}.get(method, [10, 0.35])
    steps = (0.5, 1, 2) if method != "spline" else (1, 2)  # the splines' grid ends at their choice
    trials = [[*tuned[:-1], step * tuned[-1], 30.0] for step in steps if tuned]
    return Record(settings, {"images": images, "tuned": tuned, "trials": trials}, {}, ORIGIN)


def grid(profile: str = "reduced", **levels: float) -> list[Record]:
    """All runs of a profile; each method has the PSNR of its own."""
    levels = {**LEVELS, "spline": 30.0, **levels}
    return [record(cell, levels[cell["method"]]) for cell in reconstruction.cells(profile)]


def row(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_quality_is_the_mean_over_the_images_of_a_problem() -> None:
    table = tables.quality_table(grid())
    assert row(table, "test images")[1:] == ["2", *["8"] * 3, *["2"] * 4]
    assert row(table, "spline")[1:] == ["30.00", *["30.15"] * 3, *["30.00"] * 4]
    assert row(tables.quality_table(grid(), "snr"), "spline")[1] == "25.00"
    assert "SNR (dB)" in tables.quality_table(grid(), "snr")


def test_a_mean_over_fewer_images_is_not_shown() -> None:
    records = [
        r
        for r in grid()
        if (r.settings["method"], r.settings["image"], r.settings["pattern"])
        != ("relu", "Bust", "random")
    ]
    assert row(tables.quality_table(records), "ReLU")[1:3] == ["", "29.15"]
    with pytest.raises(ValueError, match="ReLU has 33"):
        tables.comparisons(records)


def test_problems_have_names_of_their_own() -> None:
    labels = [tables.problem_label(problem) for problem in tables.by_problem(grid())]
    assert len(set(labels)) == len(labels) == 8
    assert "MRI, 8 coils, 4x" in labels
    assert "CT, noise 0.5" in labels


def test_the_best_of_each_problem_is_told() -> None:
    records = grid(tv=30.5)
    told = tables.best_text(records)
    assert told == (
        "Largest mean PSNR of all methods, in 8 problems: total variation (8); "
        "of the first denoiser of each kind, in 8 problems: spline (8)."
    )
    few = [
        r
        for r in records
        if (r.settings["method"], r.settings["problem"]) not in (("relu", "ct"), ("tv", "ct"))
    ]
    assert tables.best_text(few) == (
        "Largest mean PSNR of all methods, in 8 problems: total variation (5), spline (3); "
        "of the first denoiser of each kind, in 5 problems: spline (5)."
    )
    assert (
        tables.converged_text(few)
        == "Of 326 reconstructions by an iteration 137 ended by their tolerance. "
        "(While tuning: not recorded for all of these records.)"
    )
    counted = [
        dataclasses.replace(
            r, provenance={**r.provenance, "tuning": {"iterations": 4, "converged": 3}}
        )
        for r in few
    ]
    said = f"(While tuning: {3 * len(few)} of {4 * len(few)}.)"
    assert said in tables.converged_text(counted)


def test_what_was_tuned() -> None:
    table = tables.tuning_table(grid())
    assert "MRI, random mask, Brain" in table.splitlines()[0]
    assert set(row(table, "total variation")[1:]) == {"1.0e-03"}
    assert set(row(table, "spline")[1:]) == {"10; 0.35\\*"}  # at the end of its grid
    assert set(row(table, "ReLU")[1:]) == {"10; 0.35"}
    assert "linear" not in table
    records = grid()
    ours = sum(record.settings["method"] == "spline" for record in records)
    told = re.search(r"denoisers (\d+) of (\d+)", tables.edge_text(records))
    assert told
    assert int(told[1]) == ours < int(told[2])
    assert "total variation" not in tables.edge_text(records)


def test_how_long_it_took() -> None:
    table = tables.speed_table(grid())
    assert row(table, "spline")[1:3] == ["30; 2 of 2; 20", "30; 1 of 8; 20"]
    assert "linear" not in table


def test_the_verdict_follows_the_errors() -> None:
    assert "**confirmed**" in tables.verdict_text(grid("paper"))
    assert "**not confirmed**" in tables.verdict_text(grid("paper", relu=31.0))
    found = tables.comparisons(grid("paper"))
    labels = [tables.method_label(m) for m in LEVELS if m in found_of()]
    assert [c.label for c in found[: len(labels)]] == labels
    assert found[0].ratio == pytest.approx(10**-0.1)
    assert all(c.p_holds < 1e-4 for c in found)


def test_images_count_once_however_many_problems_they_are_in() -> None:
    """Ten images at the reduced profile, in 34 pairs or not."""
    found = tables.comparisons(grid())
    assert all(c.p_holds == pytest.approx(0.5**10) for c in found)
    text = tables.verdict_text(grid())
    assert "**confirmed**" in text
    assert "Test images: 10" in text
    assert "0.012, below the level" in text


def test_converged_runs_are_counted() -> None:
    assert comparisons.converged(grid(), ["spline"]) == (26, 68)
    assert comparisons.converged(grid(), ["linear-not-run"]) == (0, 0)


def test_a_page_shows_what_is_there_and_says_how_much() -> None:
    text = tables.reference_text([r for r in grid() if r.settings["method"] != "absolute"])
    assert "143 of 156 runs" in text
    assert "absolute" not in text


def test_the_error_of_an_image_is_the_geometric_mean_over_its_problems() -> None:
    errors = {("mri", "random", "a"): 4.0, ("ct", 1.0, "a"): 9.0, ("ct", 1.0, "b"): 5.0}
    assert tables.by_image(errors) == pytest.approx([6.0, 5.0])


def found_of() -> tuple[str, ...]:
    return tuple(name for name in reconstruction.DENOISERS if name != tables.OURS)


def test_one_planted_record_changes_nothing_that_many_say_and_equal_errors_decide_nothing() -> None:
    records = grid(relu=30.0)
    relu = next(c for c in tables.comparisons(records) if c.label == "ReLU")
    assert (relu.p_holds, relu.p_fails) == (1.0, 1.0)
    assert "**undecided**" in tables.verdict_text(records)


def test_baselines_take_no_part_in_the_verdict() -> None:
    assert "**confirmed**" in tables.verdict_text(grid("paper", tv=99.0, linear=99.0))


def test_both_trainings_of_the_splines_must_be_ahead() -> None:
    found = tables.comparisons(grid())
    labels = [comparison.label for comparison in found]
    rivals = [label for label in labels if "second spline" not in label]
    assert labels == [*rivals, *(f"{label} (second spline)" for label in rivals)]
    assert len(rivals) == len(reconstruction.DENOISERS) - 1
    assert "**confirmed**" in tables.verdict_text(grid())
    assert "**not confirmed**" in tables.verdict_text(grid(**{SECOND: 28.0}))
    assert "**undecided**" in tables.verdict_text(grid(**{SECOND: 29.0}))
    text = tables.trainings_text(grid(**{SECOND: 28.0, "relu": 27.0}))
    assert "the first is ahead of 6 of 6" in text
    assert "the second of 1" in text
    assert f"{10**0.2:.2f} times those of the first" in text
    assert f"{10**0.1:.2f} to {10**0.3:.2f} times" in text
    assert tables.trainings_text([r for r in grid() if r.settings["method"] != SECOND]) == ""
    needed = comparisons.needed(reconstruction.cells("reduced"), {tables.OURS, "relu"})
    assert {settings["method"] for settings in needed} == {tables.OURS, SECOND, "relu"}


def test_without_a_rival_there_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="the splines and of a rival"):
        tables.comparisons(grid("smoke"))
    assert "cannot be compared all together yet" in tables.reference_text(
        [r for r in grid() if r.settings["method"] in ("linear", "spline")]
    )


def test_the_reference_says_what_it_is() -> None:
    assert "No record" in tables.reference_text([])
    records = grid()
    text = tables.reference_text(records)
    assert f"{len(records)} of {len(records)} runs" in text
    assert "not the sizes of the paper" in text
    assert "not the sizes" not in tables.reference_text(grid("paper"))
    assert not math.isnan(float(row(tables.quality_table(records, "ssim"), "spline")[1]))
