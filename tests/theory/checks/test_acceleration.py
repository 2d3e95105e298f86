"""The check of the acceleration fails when what it checks is broken."""

from __future__ import annotations

import torch

from lipsplines.inverse import acceleration
from lipsplines.inverse.acceleration import Anderson

from .outcome import failures


def test_it_holds() -> None:
    assert failures("C6.f") == []


def test_without_the_first_condition(monkeypatch) -> None:
    call = Anderson.__call__

    def careless(self, data, *state):
        monkeypatch.setattr(acceleration, "LEVEL", 1e30)
        try:
            return call(self, data, *state)
        finally:
            monkeypatch.setattr(acceleration, "LEVEL", 100.0)

    monkeypatch.setattr(Anderson, "__call__", careless)
    found = failures("C6.f")
    assert "jumps: residual / limit at extrapolated steps" in found
    assert "jumps: extrapolated steps of the last 150" in found


def test_steps_that_are_too_long(monkeypatch) -> None:
    correction = Anderson._correction
    monkeypatch.setattr(
        Anderson, "_correction", staticmethod(lambda g, dx, dg: 1e9 * correction(g, dx, dg))
    )
    monkeypatch.setattr(acceleration, "_norm", lambda x: torch.zeros(len(x), dtype=torch.float64))
    found = failures("C6.f")
    assert "rotation: length / limit of extrapolated steps" in found


def test_extrapolation_that_does_not_help(monkeypatch) -> None:
    monkeypatch.setattr(
        Anderson, "_correction", staticmethod(lambda g, dx, dg: torch.zeros_like(g))
    )
    assert failures("C6.f") == ["rotation: last norm / that of the plain iteration"]


def test_another_fixed_point(monkeypatch) -> None:
    call = Anderson.__call__

    def shifted(self, data, *state):
        found = call(self, data, *state)
        return found._replace(state=(found.state[0] + 1e-3, *found.state[1:]))

    monkeypatch.setattr(Anderson, "__call__", shifted)
    assert "networks: distance to the plain fixed point" in failures("C6.f")
