"""The tables of ``ARTIFACT.md``: what to run for each claim, in how long, and what comes out.

``python -m tools.artifact`` writes them, and that of ``README.md`` (`tools.verdicts`), from claims,
experiments and stored records; tests compare. After records were added, run it again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lipsplines.claims.entries import load_claims
from lipsplines.claims.tables import SIGNS
from lipsplines.claims.verdicts import findings
from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.pages.tables import markdown_table
from lipsplines.runner.base import LONG_PROFILES
from lipsplines.runner.progress import duration
from tools.times import stored_runs
from tools.verdicts import completed, table


def runs_table(root: Path) -> str:
    """A row for each experiment that a claim needs: its short run and its reference records."""
    names = dict.fromkeys(name for claim in load_claims() for name in claim.experiments)
    rows = []
    for name in names:
        minutes = EXPERIMENTS[name].minutes
        stored, spent = [], 0.0
        for profile in LONG_PROFILES:
            runs = stored_runs(root, name, profile)
            if runs:
                planned = len(EXPERIMENTS[name].cells(profile, 0))
                stored.append(f"{len(runs)} of {planned} at {profile}")
                spent += sum(run["seconds"] for run in runs)
        rows.append(
            [
                f"`{name}`",
                f"`.venv/bin/python -m lipsplines run {name} --profile quick`",
                *(duration(60 * minutes[profile]) for profile in ("smoke", "quick")),
                ", ".join(stored) or "none",
                duration(spent) if stored else "–",
            ]
        )
    header = ["experiment", "short run", "smoke", "quick", "stored records", "time of one core"]
    return markdown_table(header, rows, names=2)


def claims_table(root: Path) -> str:
    """A row for each claim: where it is decided, and its verdict by the stored records."""
    rows = []
    for finding in findings(Store(root / "results"), EXPERIMENTS):
        claim = finding.claim
        found = f"{SIGNS[finding.verdict]} {finding.told}; {finding.profile}".removesuffix("; ")
        if claim.rule == "checks":  # their records are those of a build
            found = f"{SIGNS['proved']} proved, after the short run"
        where = ", ".join(f"`{name}`" for name in claim.experiments) or "`make book`"
        rows.append([f"`{claim.id}`", claim.statement, where, found])
    return markdown_table(["claim", "in our words", "decided by", "to expect"], rows, names=4)


def main() -> int:
    """Run the command line; return the exit status."""
    page = Path("ARTIFACT.md")
    page.write_text(written(page.read_text(encoding="utf-8"), Path.cwd()), encoding="utf-8")
    readme = Path("README.md")
    text = completed(readme.read_text(encoding="utf-8"), table(Path.cwd()))
    readme.write_text(text, encoding="utf-8")
    return 0


def written(text: str, root: Path) -> str:
    """The page with its two tables."""
    head, mark, rest = text.partition("## The claims")
    return completed(head, runs_table(root)) + mark + completed(rest, claims_table(root))


if __name__ == "__main__":
    sys.exit(main())
