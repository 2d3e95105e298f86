"""What is measured: operators, images, noise."""

from __future__ import annotations

import os

import pytest
import torch

from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.reconstruction.problems import NOISE, load_problem
from lipsplines.inverse import CoilSampling, FourierSampling, ParallelBeam
from lipsplines.measures.image_quality import psnr

pytest.importorskip("skimage")
needs_data = pytest.mark.skipif(
    not os.environ.get("LIPSPLINES_DATA"), reason="LIPSPLINES_DATA names no folder of data sets"
)
EXPERIMENT = EXPERIMENTS["reconstruction"]


def settings(profile: str, problem: str, method: str = "linear", **changes) -> dict:
    cells = EXPERIMENT.cells(profile, 0)
    first = next(c for c in cells if c["problem"] == problem and c["method"] == method)
    return {**first, **changes}


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
