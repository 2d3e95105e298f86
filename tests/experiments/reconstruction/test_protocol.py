"""The reconstruction experiment: grid, tuning, problems, records."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch

from lipsplines.evidence.records import Record, Store, identity
from lipsplines.experiments import EXPERIMENTS, run, status
from lipsplines.experiments.reconstruction import protocol as reconstruction
from lipsplines.experiments.reconstruction.problems import CENTRES, MASKS, NOISE, load_problem
from lipsplines.experiments.reconstruction.protocol import AVERAGING, SIGMAS, WEIGHTS, climb
from lipsplines.inverse import CoilSampling, FourierSampling, ParallelBeam
from lipsplines.measures.image_quality import psnr

pytest.importorskip("skimage")
needs_data = pytest.mark.skipif(
    not os.environ.get("LIPSPLINES_DATA"), reason="LIPSPLINES_DATA names no folder of data sets"
)
EXPERIMENT = EXPERIMENTS["reconstruction"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """All runs of the smoke profile."""
    store = Store(tmp_path_factory.mktemp("results"))
    run(EXPERIMENT, "smoke", store, jobs=1, progress=False)
    return store


@pytest.fixture(scope="module")
def records(store: Store) -> list[Record]:
    return status(EXPERIMENT, "smoke", store)[0]


def settings(profile: str, problem: str, method: str = "linear", **changes) -> dict:
    cells = EXPERIMENT.cells(profile, 0)
    first = next(c for c in cells if c["problem"] == problem and c["method"] == method)
    return {**first, **changes}


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    """All methods for each problem; with real images each of the two is tested once."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    sizes = reconstruction.PROFILE_SIZES[profile]
    places: dict[tuple, list[str]] = {}
    for c in cells:
        place = (c["problem"], c["pattern"], c["acceleration"], c["deviation"], c["image"])
        places.setdefault(place, []).append(c["method"])
    assert all(methods == list(sizes.methods) for methods in places.values())
    if sizes.images == "real":
        mri = {place[-1] for place in places if place[0] != "ct"}
        assert mri == {"Brain", "Bust"}


def test_the_long_profiles_have_all_problems_and_denoisers() -> None:
    for profile in ("reduced", "paper"):
        cells = EXPERIMENT.cells(profile, 0)
        assert {c["pattern"] for c in cells} == {None, *MASKS}
        assert {c["acceleration"] for c in cells} == {None, *CENTRES}
        assert {c["deviation"] for c in cells if c["problem"] == "ct"} == {0.5, 1.0, 2.0}
        assert {c["method"] for c in cells} == {"linear", "tv", *reconstruction.DENOISERS}
    paper = settings("paper", "ct")
    assert (paper["side"], paper["angles"], paper["detectors"]) == (512, 200, 400)
    assert (paper["tolerance"], paper["max_iterations"]) == (1e-6, 1000)
    assert (paper["images_tuned"], paper["images_tested"]) == (6, 21)


def test_records_are_complete(records: list[Record], store: Store) -> None:
    assert len(records) == len(EXPERIMENT.cells("smoke", 0))
    for record in records:
        s = record.settings
        for image in record.metrics["images"].values():
            assert {"psnr", "ssim", "snr", "iterations"} <= image.keys()
            if s["method"] != "linear":
                most = s["max_iterations"] * (10 if s["method"] == "tv" else 1)
                assert 1 <= image["iterations"] <= most
                assert len(image["residuals"]) == image["iterations"]
        if s["method"] in ("linear", "tv"):
            assert record.lipschitz == {}
        else:
            assert record.lipschitz["lower"] <= record.lipschitz["upper"] <= 1 + 1e-4
            assert len(record.provenance["data"]["denoiser"]) == 64
            assert record.metrics["tuned"][0] in SIGMAS
            assert record.metrics["tuned"][1] in AVERAGING
        assert store.tensors(record)["image"].dtype == torch.uint8


def test_the_chosen_settings_are_the_best_of_those_tried(records: list[Record]) -> None:
    for record in records:
        if record.settings["method"] != "linear":
            best = max(record.metrics["trials"], key=lambda trial: trial[-1])
            assert record.metrics["tuned"] == best[:-1]


def test_nothing_of_the_test_images_is_used_to_tune() -> None:
    own = settings("smoke", "ct")
    problem = load_problem(own)
    assert not set(problem.test) & set(problem.tuning)
    for picture, _ in problem.test.values():
        assert not any(torch.equal(picture, other) for other, _ in problem.tuning.values())


@needs_data
def test_each_real_image_is_tuned_on_the_other_one() -> None:
    for tested, other in (("Brain", "Bust"), ("Bust", "Brain")):
        problem = load_problem(settings("reduced", "mri", image=tested))
        assert (list(problem.test), list(problem.tuning)) == ([tested], [other])


@needs_data
@pytest.mark.parametrize(("pattern", "brain"), [("random", 24.24), ("radial", 23.43)])
def test_zero_filling_without_noise_has_the_known_error(pattern: str, brain: float) -> None:
    """The mask in the wrong order keeps little of the image; PSNR of |ifft2| as published."""
    own = settings("reduced", "mri", pattern=pattern, image="Brain", deviation=0.0)
    problem = load_problem(own)
    (picture, data) = problem.test["Brain"]
    magnitude = torch.fft.ifft2(data[0, 0], norm="ortho").abs()
    assert psnr(magnitude, picture[0, 0]) == pytest.approx(brain, abs=0.01)


@pytest.mark.parametrize(
    ("problem", "kind"), [("mri", FourierSampling), ("coils", CoilSampling), ("ct", ParallelBeam)]
)
def test_problems_have_noise_of_the_stated_size(problem: str, kind: type) -> None:
    own = settings("quick", problem, side=64)
    found = load_problem(own)
    assert isinstance(found.operator, kind)
    for picture, data in found.test.values():
        difference = (data - found.operator(picture)).abs()
        measured = difference[difference > 0]
        expected = own["deviation"] * (64 / 256 if problem == "ct" else 1)
        assert measured.square().mean().sqrt() == pytest.approx(expected, rel=0.1)
    again = load_problem(own)
    for name, (_, data) in found.test.items():
        assert torch.equal(data, again.test[name][1])
    (_, other), *_ = found.tuning.values()
    assert not torch.equal(other, next(iter(found.test.values()))[1])


def test_an_unknown_problem_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=f"choose one of {', '.join(NOISE)}"):
        load_problem({**settings("smoke", "mri"), "problem": "pet"})


def test_climbing_ends_at_a_place_no_step_improves() -> None:
    asked = []

    def score(a: float, b: float) -> float:
        asked.append((a, b))
        return -((a - 3) ** 2) - (b - 40) ** 2 / 100 + (a - 3) * (b - 40) / 20

    grid = ((1, 2, 3, 4), tuple(range(0, 60, 10)))
    assert climb(score, grid, (0, 0)) == (3, 40)
    assert len(set(asked)) == len(asked) < 24


def test_climbing_stays_within_the_grid() -> None:
    assert climb(lambda w: w, (WEIGHTS,), (3,)) == (WEIGHTS[-1],)
    assert climb(lambda w: -w, (WEIGHTS,), (3,)) == (WEIGHTS[0],)


def test_a_denoiser_reconstructs_better_than_no_prior(records: list[Record]) -> None:
    """On a larger image than that of the smoke profile, with settings that were not tuned."""
    own = settings("quick", "mri", "spline", side=96)
    problem = load_problem(own)
    (picture, data) = problem.test["camera"]
    found = reconstruction.reconstruct(own, problem, data, (5, 0.5), 25)
    before = psnr(problem.baseline(data)[0, 0], picture[0, 0])
    assert psnr(found.images[0, 0], picture[0, 0]) > before + 1
    residuals = found.curves["residual"][:, 0].numpy()
    assert np.all(np.diff(residuals) <= 1e-5 * residuals[0])


def test_profiles_change_sizes_alone() -> None:
    fields = {field.name for field in dataclasses.fields(reconstruction.Sizes)}
    assert fields >= {"problems", "methods", "images", "side", "tolerance"}
    keys = {tuple(cell) for profile in EXPERIMENT.minutes for cell in EXPERIMENT.cells(profile, 0)}
    assert len(keys) == 1
