"""Figures with a slider."""

from __future__ import annotations

import base64
import io
import re

import matplotlib as mpl

mpl.use("Agg")

import itertools

import numpy as np
import pytest
from PIL import Image

from lipsplines.pages import interactive


def pictures(html: str) -> list[np.ndarray]:
    """The PNG files that are part of some HTML."""
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(s))).convert("RGB")) for s in sources]


def draw(figure, index: int) -> None:
    axis = figure.subplots()
    axis.plot([0, index + 1])
    axis.set_ylim(0, 5)


def test_a_film_shows_its_last_frame_and_holds_all() -> None:
    film = interactive.film(draw, ["start", "middle", "<end>"], "a line", height=2)
    html = film._repr_html_()
    frames = pictures(html)
    assert len({frame.shape for frame in frames}) == 1
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(frames))
    tags = re.findall(r"<img [^>]*>", html)
    assert [" hidden" in tag for tag in tags] == [True, True, False]
    assert all('alt="a line (' in tag for tag in tags)
    assert 'max="2" value="2"' in html
    assert "<end>" not in html
    assert "http" not in html
    assert film._repr_png_() == film.frames[-1]


def test_photographs_are_told_from_drawings() -> None:
    kinds = [interactive.film(draw, ["one"], "a", photograph=kind) for kind in (True, False)]
    assert ["photograph" in film._repr_html_() for film in kinds] == [True, False]


def test_frames_are_small() -> None:
    film = interactive.film(draw, ["one"], "a line")
    assert len(film.frames[0]) < 20_000


@pytest.mark.parametrize(("frames", "labels"), [([], []), ([b"x"], ["a", "b"])])
def test_a_film_without_a_label_for_each_frame_is_refused(frames: list, labels: list) -> None:
    with pytest.raises(ValueError, match="as many labels as frames"):
        interactive.Film(frames, labels, "x")


def test_a_wipe_holds_both_pictures_and_needs_nothing_else() -> None:
    left, right = np.zeros((2, 3)), np.full((2, 3), 255, dtype=np.uint8)
    html = interactive.wipe(left, right, ("before", "<after>"), "a test", height=4)
    shown = pictures(html)
    assert [picture.shape for picture in shown] == [(4, 6, 3), (4, 6, 3)]
    assert (shown[0].max(), shown[1].min()) == (0, 255)
    assert "http" not in html
    assert 'type="range"' in html
    assert "&lt;after&gt;" in html
    assert "<after>" not in html


def test_a_wipe_of_pictures_that_differ_in_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="two pictures of one shape"):
        interactive.wipe(np.zeros((2, 3)), np.zeros((3, 2)), ("a", "b"), "")
