"""An experiment whose runs wait for a file to go away: imported by the workers of a cluster.

``python stub_experiment.py run stub ...`` is the command line with this experiment. Each run leaves
a file in the folder ``STUB_LOG`` when it begins and another one when it is done, and waits as long
as the folder holds the file ``hold``. If it holds ``withhold``, workers start and are never asked.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from lipsplines.runner.base import Experiment, Outcome, Settings

GROUPS, TOGETHER = 6, 2


def cells(profile: str, seed: int) -> list[Settings]:
    """Settings of the runs, two of which are computed together."""
    common = {"experiment": "stub", "profile": profile, "seed": seed}
    return [
        {**common, "part": part, "run": run} for part in range(GROUPS) for run in range(TOGETHER)
    ]


def compute(group: list[Settings]) -> list[Outcome]:
    """Numbers that depend on the settings alone, as soon as nothing holds them back."""
    log, part = Path(os.environ["STUB_LOG"]), group[0]["part"]
    name = f"{part}-{os.getpid()}"
    (log / f"begun-{name}").touch()
    if (log / f"fatal-{part}").exists():
        os._exit(9)
    while (log / "hold").exists():
        time.sleep(0.01)
    outcomes = [
        Outcome(
            {"value": 1.0 + part + settings["run"] / 10, "seconds_of_work": time.time()}, {}, {}
        )
        for settings in group
    ]
    (log / f"done-{name}").touch()
    return outcomes


EXPERIMENT = Experiment(
    name="stub",
    title="Runs that wait",
    minutes={"smoke": 1.0},
    cells=cells,
    group=lambda settings: settings["part"],
    cost=lambda group: float(len(group)),
    compute=compute,
)


if __name__ == "__main__":
    import stub_experiment  # not this script, which no other process can import

    from lipsplines.cli import main
    from lipsplines.experiments import EXPERIMENTS

    if (Path(os.environ["STUB_LOG"]) / "withhold").exists():
        from joblib.externals.loky import process_executor

        process_executor._ExecutorManagerThread.add_call_item_to_queue = lambda self: None
    EXPERIMENTS["stub"] = stub_experiment.EXPERIMENT
    sys.exit(main())
