"""Attack files, downloads and runs for some minutes: ``python -m tests.fuzz --minutes 3``.

Each attack has a number, from which it can be repeated alone; counts of what happened are printed,
and whatever must not happen with its number. The exit status is 1 then.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .kills import kills
from .mutations import Fault
from .servers import servers
from .stored_files import Attack, checkpoints, claims, models, records

ATTACKS: dict[str, Callable[[Path], Attack]] = {
    attack.__name__: attack for attack in (models, records, checkpoints, claims, servers, kills)
}

SHARES = {"kills": 3}  # of the time, where it is not one


def attacked(
    name: str, seconds: float, first: int = 0, most: int | None = None
) -> tuple[Counter[str], list[str]]:
    """Attack one kind of thing: how often each verdict came, and each fault with its number.

    Parameters
    ----------
    name
        Of the kind, in `ATTACKS`.
    seconds
        When it is enough.
    first
        Number of the first attack.
    most
        How many attacks at most.
    """
    counts: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lipsplines-") as folder:
        attack = ATTACKS[name](Path(folder))
        number, end = first, time.monotonic() + seconds
        while time.monotonic() < end and (most is None or number < first + most):
            try:
                counts[attack(random.Random(f"{name} {number}"))] += 1
            except Fault as fault:
                faults.append(f"{name} {number}: {fault}")
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}, line {place.lineno}"
                faults.append(
                    f"{name} {number}: {type(error).__name__} in {where}: {str(error)[:300]!r}"
                )
            number += 1
    return counts, faults


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="for all together (default 3)")
    parser.add_argument("--seed", type=int, help="number of the first attack (default: the time)")
    parser.add_argument("--only", choices=ATTACKS, help="one kind of attack")
    parser.add_argument("--count", type=int, help="attacks of each kind at most")
    options = parser.parse_args()
    names = [options.only] if options.only else list(ATTACKS)
    first = int(time.time()) * 1000 if options.seed is None else options.seed
    print(f"attacks from number {first} on; repeat one: --only NAME --count 1 --seed NUMBER")
    faulty, shares = False, sum(SHARES.get(name, 1) for name in names)
    for name in names:
        seconds = 60 * options.minutes * SHARES.get(name, 1) / shares
        counts, faults = attacked(name, seconds, first, options.count)
        total = sum(counts.values()) + len(faults)
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"{name:12} {total:6} attacks: {told or 'none ended'}; {len(faults)} faults")
        for fault in faults[:10]:
            print(f"  {fault}")
        faulty = faulty or bool(faults)
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main())
