"""The five experiments with their verdicts, one line each: on the first page and in the README.

``python -m tools.artifact`` writes the table into ``README.md``; a test compares the two. It says
what the stored records of the repository say, whatever was computed besides.
"""

from __future__ import annotations

from pathlib import Path

from lipsplines.claims.entries import load_claims
from lipsplines.claims.rules import starts
from lipsplines.claims.tables import SIGNS
from lipsplines.claims.verdicts import Finding, findings
from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.pages.tables import markdown_table

MARK = "<!-- table -->"
END = "<!-- end of the table -->"
#: Chapter -> what its networks do, and the claims about ReLU and about all rivals.
LINES = {
    "fitting1d": ("fit functions of one variable", "fitting1d-relu", "fitting1d-rivals"),
    "wasserstein": ("estimate a Wasserstein distance", "wasserstein-relu", "wasserstein-rivals"),
    "wgan": ("train a generator of digits", "wgan-relu", "wgan-rivals"),
    "denoising": ("remove noise from photographs", "denoising-relu", "denoising-rivals"),
    "reconstruction": (
        "reconstruct images by plug-and-play",
        "pnp-trainings-relu",
        "pnp-trainings-rivals",
    ),
}


def table(root: Path, link: str = "") -> str:
    """Markdown with a line for each experiment.

    Parameters
    ----------
    root
        Of the repository, whose committed records count.
    link
        Address of a chapter, with ``{}`` for its name; empty for no links.
    """
    wanted = {claim for _, *claims in LINES.values() for claim in claims}
    claims = [claim for claim in load_claims() if claim.id in wanted]
    found = {f.claim.id: f for f in findings(Store(root / "results"), EXPERIMENTS, claims=claims)}
    rows = []
    for chapter, (does, relu, rivals) in LINES.items():
        title = f"[{does}]({link.format(chapter)})" if link else does
        profiles = dict.fromkeys(found[claim].profile for claim in (relu, rivals))
        sizes = ", ".join(f"*{profile}*" for profile in profiles if profile)
        asked = "better: " if found[rivals].claim.margin == 1 else "at least as good: "
        rows.append(
            [
                title,
                starts(found[relu].claim).removesuffix(" start"),
                _words(found[relu]),
                asked + _words(found[rivals]),
                sizes or "none",
            ]
        )
    header = [
        "networks that …",
        "splines start as",
        "better than ReLU",
        "against all others",
        "records",
    ]
    return markdown_table(header, rows, names=len(header))


def _words(finding: Finding) -> str:
    return f"{SIGNS[finding.verdict]} {finding.told}"


def completed(text: str, lines: str) -> str:
    """The text with the table after its mark, in place of an earlier one.

    Raises
    ------
    ValueError
        If there is no mark.
    """
    if MARK not in text:
        raise ValueError(f"There is no line {MARK}, which says where the table goes.")
    before, _, after = text.partition(MARK)
    after = after.partition(END)[2] if END in after else after
    return f"{before}{MARK}\n\n{lines}\n\n{END}{after}"
