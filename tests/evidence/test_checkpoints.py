"""The file of a training's state: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import CorruptRecordWarning

SETTINGS = {"experiment": "test", "seed": 0}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(width=32),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner) | st.tuples(inner)
    ),
    max_leaves=8,
)


def parts() -> dict:
    """A network and its optimizer, after a step that gives the optimizer a state."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def flat(state) -> list:
    """All leaves of a state, in order."""
    if isinstance(state, dict):
        return [leaf for key in state for leaf in (key, *flat(state[key]))]
    if isinstance(state, (list, tuple)):
        return [type(state).__name__, *(leaf for item in state for leaf in flat(item))]
    return [state]


def same(one, other) -> bool:
    """Equal leaf by leaf, bit for bit."""
    pairs = list(zip(flat(one), flat(other), strict=True))
    return all(
        torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
        for a, b in pairs
    )


def test_the_state_comes_back(tmp_path: Path) -> None:
    file, saved = Checkpoint(tmp_path / "run.partial", SETTINGS), parts()
    values = {"step": 7, "curves": {"loss": [0.1, 1e-30]}, "pair": (1, None), "rows": torch.eye(2)}
    assert file.save(saved, values, now=True)
    fresh = parts()
    found = Checkpoint(tmp_path / "run.partial", SETTINGS).restore(fresh)
    assert same(found, values)
    assert all(same(fresh[name].state_dict(), saved[name].state_dict()) for name in saved)


@given(VALUES)
def test_plain_values_come_back(value) -> None:
    import tempfile

    if value != value:  # NaN
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Checkpoint(Path(folder) / "run.partial", SETTINGS)
        file.save({}, {"value": value}, now=True)
        assert repr(file.restore({})["value"]) == repr(value)


def test_files_are_as_far_apart_as_asked(tmp_path: Path) -> None:
    seconds = [0.0]
    file = Checkpoint(tmp_path / "run.partial", SETTINGS, 60.0, clock=lambda: seconds[0])
    written = []
    for second in (10, 59, 60, 100, 120, 180):
        seconds[0] = second
        written.append(file.save({}, {}))
    assert written == [False, False, True, False, True, True]


def test_no_file_no_state(tmp_path: Path) -> None:
    assert Checkpoint(None, SETTINGS).restore(parts()) is None
    assert not Checkpoint(None, SETTINGS).save(parts(), {}, now=True)
    file = Checkpoint(tmp_path / "run.partial", SETTINGS)
    assert file.restore(parts()) is None
    file.save({}, {}, now=True)
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "altered", "other settings", "empty", "text"])
def test_a_file_that_is_no_state_of_this_training_is_left_out(tmp_path: Path, damage: str) -> None:
    path, saved = tmp_path / "run.partial", parts()
    Checkpoint(path, {**SETTINGS, "seed": int(damage == "other settings")}).save(
        saved, {"step": 3}, now=True
    )
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-10])
    elif damage == "altered":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage in ("empty", "text"):
        path.write_bytes(b"" if damage == "empty" else b"no state")
    fresh = parts()
    before = [leaf.clone() for leaf in fresh["model"].state_dict().values()]
    with pytest.warns(CorruptRecordWarning, match="starts anew"):
        assert Checkpoint(path, SETTINGS).restore(fresh) is None
    after = fresh["model"].state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_parts_that_do_not_fit_leave_all_as_they_were(tmp_path: Path) -> None:
    """Also the part that fits, and comes first."""
    path, saved = tmp_path / "run.partial", parts()
    Checkpoint(path, SETTINGS).save(saved, {}, now=True)
    first, second = parts()["model"], torch.optim.SGD(nn.Linear(3, 2).parameters(), 0.1)
    before = [leaf.clone() for leaf in first.state_dict().values()]
    fresh = {"model": first, "optimizer": second}
    with pytest.warns(CorruptRecordWarning, match="starts anew"):
        assert Checkpoint(path, SETTINGS).restore(fresh) is None
    after = first.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not second.state


def test_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold a set"):
        Checkpoint(tmp_path / "run.partial", SETTINGS).save({}, {"value": {1}}, now=True)
    assert list(tmp_path.iterdir()) == []
