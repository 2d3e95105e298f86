"""Figures that answer a slider: without a network, a library or a build step.

Each is one piece of HTML that holds its pictures. Sliders obey mouse, touch and arrow keys.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lipsplines.pages.figures import WIDTH

__all__ = ["Film", "film", "wipe"]

COLOURS = 128  # of a frame; drawings need no more


class Film:
    """Pictures of one size, one of which is seen; a slider chooses which.

    Where no HTML is shown, as in print, the last picture stands for all. Where scripts do not run,
    it is the one that is seen.

    Parameters
    ----------
    frames
        PNG files, of one size.
    labels
        What each picture shows, such as ``"step 10"``.
    alt
        Text in place of the pictures.
    photograph
        Whether the pictures must keep their grey levels on a dark page, where drawings are
        inverted.

    Raises
    ------
    ValueError
        If there is no frame, or labels and frames differ in number.
    """

    def __init__(
        self,
        frames: Sequence[bytes],
        labels: Sequence[str],
        alt: str,
        photograph: bool = False,
    ) -> None:
        if not frames or len(frames) != len(labels):
            raise ValueError(
                f"A film needs as many labels as frames, at least one; got {len(frames)} frames "
                f"and {len(labels)} labels."
            )
        self.frames, self.labels, self.alt = list(frames), list(labels), alt
        self.photograph = photograph

    def _repr_html_(self) -> str:
        last = len(self.frames) - 1
        kind = 'class="photograph" ' if self.photograph else ""
        pictures = "".join(
            f'<img {kind}src="{_address(frame)}" alt="{escape(self.alt)} ({escape(label)})" '
            f'data-label="{escape(label)}"{"" if index == last else " hidden"}>'
            for index, (frame, label) in enumerate(zip(self.frames, self.labels, strict=True))
        )
        return (
            f'<div class="film">{pictures}<label><output>{escape(self.labels[last])}</output>'
            f'<input type="range" min="0" max="{last}" value="{last}" '
            f'aria-label="Which picture is seen" aria-valuetext="{escape(self.labels[last])}" '
            f'oninput="{escape(SCRUB)}"></label></div>'
        )

    def _repr_png_(self) -> bytes:
        return self.frames[-1]


SCRUB = (
    "const film = this.closest('.film'); const k = Number(this.value); "
    "film.querySelectorAll('img').forEach((image, i) => { image.hidden = i !== k; "
    "if (i === k) { film.querySelector('output').textContent = image.dataset.label; "
    "this.setAttribute('aria-valuetext', image.dataset.label); } });"
)


def film(
    draw: Callable[[Figure, int], None],
    labels: Sequence[str],
    alt: str,
    height: float = 3.4,
    photograph: bool = False,
) -> Film:
    """A `Film` of drawings.

    Parameters
    ----------
    draw
        Draws frame ``k`` on an empty figure; axes should keep their limits from frame to frame.
    labels
        What each frame shows.
    alt
        Text in place of the pictures.
    height
        Of a frame, in inches.
    photograph
        Whether the frames show photographs; see `Film`.
    """
    frames = []
    for index in range(len(labels)):
        figure = plt.figure(figsize=(WIDTH, height))
        draw(figure, index)
        content = io.BytesIO()
        figure.savefig(content, format="png")
        plt.close(figure)
        frames.append(_small(content))
    return Film(frames, labels, alt, photograph)


def _small(content: io.BytesIO) -> bytes:
    """The PNG with few colours."""
    smaller = io.BytesIO()
    picture = Image.open(content).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def wipe(
    left: np.ndarray, right: np.ndarray, names: tuple[str, str], alt: str, height: int = 0
) -> str:
    """HTML of two pictures on top of each other, with a slider that uncovers one of them.

    It needs no network and no library. The slider obeys mouse, touch and the arrow keys; where
    scripts do not run the halves of the two pictures stand side by side.

    Parameters
    ----------
    left, right
        Grey levels in [0, 1], or bytes; shapes ``(n1, n2)``, the same.
    names
        Of the two pictures.
    alt
        Text in place of the pictures.
    height
        Rows of the pictures are repeated until there are this many; 0 leaves them.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if left.shape != right.shape or left.ndim != 2:
        raise ValueError(
            f"A wipe needs two pictures of one shape (n1, n2), got {left.shape} and {right.shape}."
        )
    times = max(1, -(-height // left.shape[0]))
    pictures = [
        f'<img src="{_data_address(picture, times)}" alt="{escape(text)}">'
        for picture, text in ((left, alt), (right, ""))
    ]
    first, second = map(escape, names)
    return (
        f'<div class="wipe"><div class="wipe-pictures">{"".join(pictures)}</div>'
        f'<div class="wipe-names"><span>{first}</span><span>{second}</span></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{first} against {second}: '
        'where the pictures meet" oninput="this.parentElement.style.setProperty('
        "'--wipe', this.value + '%')\"></div>"
    )


def _data_address(picture: np.ndarray, times: int) -> str:
    """A grey picture as the address of a PNG that is part of the page."""
    if picture.dtype != np.uint8:
        picture = (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(picture.repeat(times, 0).repeat(times, 1)).save(content, "PNG")
    return _address(content.getvalue())


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
