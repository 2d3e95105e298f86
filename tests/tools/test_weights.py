"""The trained models of the package against the records of their trainings."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from lipsplines import lipschitz_bounds, load_denoiser
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.denoising import EXPERIMENT
from lipsplines.experiments.denoising.run import regions
from lipsplines.experiments.reconstruction_trainings import protocol as trainings
from lipsplines.export.denoisers import NAMES, denoiser_facts
from lipsplines.export.shipped import WEIGHTS
from lipsplines.runner.references import reference_records
from tools.weights import LEFT_OUT, SHIPPED, export, export_regularizers, leave_out

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the weights of the package."""
    return Path(shutil.copytree(Path(str(WEIGHTS)), tmp_path / "weights"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of the records of all denoisers."""
    shutil.copytree(RESULTS / "denoising" / "reduced", tmp_path / "results/denoising/reduced")
    return Store(tmp_path / "results")


def record_of(name: str, store: Store) -> Record:
    """The record of the training whose weights come with the package, at noise level 5."""
    file = denoiser_facts(name, 5)["file"]
    (found,) = (
        record
        for record in reference_records(EXPERIMENT, store)
        if record.provenance.get(SHIPPED, {}).get("file") == file
    )
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_weights_of_the_package_are_those_of_the_records(folder: Path, store: Store) -> None:
    records = files(store.root / "denoising" / "reduced")
    export(store, folder)
    export_regularizers(Store(RESULTS), folder)
    assert files(folder) == files(Path(str(WEIGHTS)))
    assert files(store.root / "denoising" / "reduced") == records


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_the_regions_and_bounds_of_their_records(name: str) -> None:
    """So the weights, which lie in the package alone, are those of the training."""
    record, model = record_of(name, Store(RESULTS)), load_denoiser(name, 5)
    assert regions(model) == record.metrics["regions"]
    side = record.settings["side"]
    bounds = lipschitz_bounds(model, input_shape=(1, side, side), probes=4)
    assert bounds.lower == pytest.approx(record.lipschitz["lower"], rel=1e-3)
    assert bounds.upper == pytest.approx(record.lipschitz["upper"], rel=1e-3)


def test_weights_move_from_the_record_to_the_package(folder: Path, store: Store) -> None:
    """A record that has them beside it, as a run leaves it."""
    bare = record_of("relu", store)
    weights = load_denoiser("relu", 5).state_dict()
    path = store.put(bare, weights)
    (folder / "relu-5.safetensors").unlink()
    export(store, folder)
    assert files(folder) == files(Path(str(WEIGHTS)))
    assert not path.with_suffix(".safetensors").exists()
    assert record_of("relu", store) == bare


def test_weights_of_another_training_are_refused(folder: Path, store: Store) -> None:
    shutil.copy(folder / "relu-10.safetensors", folder / "relu-5.safetensors")
    with pytest.raises(ValueError, match=r"relu-5.safetensors is not the file that .*json names"):
        export(store, folder)


def with_weights(store: Store, runs: range) -> set[tuple[str, int]]:
    """Trainings that reconstruct whose weights lie beside their records."""
    return {
        (own["activation"], run)
        for own in trainings.cells("reduced")
        for run in runs
        if store.path(trainings.denoiser_settings(own["activation"], run))
        .with_suffix(".safetensors")
        .exists()
    }


def test_weights_that_have_done_their_work_are_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of the short profiles, and none that has a reconstruction to do."""
    own = "reconstruction_trainings"
    shutil.copytree(RESULTS / own / "reduced", store.root / own / "reduced")
    assert leave_out(store) == 0  # the committed records are as the tool leaves them
    assert len(with_weights(store, range(2))) == 16
    assert not with_weights(store, range(2, 8))
    small = dataclasses.replace(trainings.PROFILE_SIZES["quick"], runs=1)
    monkeypatch.setitem(trainings.PROFILE_SIZES, "quick", small)
    *_, lifted = store.select(own, "reduced", activation="relu", run=1)
    store.path(lifted.settings).unlink()
    before = {
        name: store.get(trainings.denoiser_settings(name, 1)) for name in ("relu", "absolute")
    }
    assert leave_out(store) == 7
    assert with_weights(store, range(1, 8)) == {("relu", 1)}
    bare = store.get(trainings.denoiser_settings("absolute", 1))
    assert store.get(trainings.denoiser_settings("relu", 1)) == before["relu"]
    assert bare.provenance[LEFT_OUT] == before["absolute"].tensors
    assert bare.metrics == before["absolute"].metrics
