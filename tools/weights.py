"""Turn the records of trained models into the files that come with the package.

``python -m tools.weights`` reads the reference runs of the experiments ``denoising`` and
``regularizers`` in ``results`` and writes ``lipsplines/weights``: a file for each kind of model and
noise level, and an index of each experiment. The weights of a denoiser then leave ``results``, for
the repository shall hold them once; its record names the file of the package and the SHA-256.

The weights of the trainings in ``reconstruction_trainings`` leave ``results`` when all their
reconstructions are recorded, but for those that its short profiles use.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np

from lipsplines.evidence.records import Store
from lipsplines.experiments.denoising import EXPERIMENT
from lipsplines.experiments.denoising import protocol as denoising
from lipsplines.experiments.denoising.comparisons import shown
from lipsplines.experiments.denoising.run import build
from lipsplines.experiments.reconstruction_trainings import protocol as trainings
from lipsplines.experiments.regularizers import EXPERIMENT as REGULARIZERS
from lipsplines.experiments.regularizers.comparisons import OURS, shipped
from lipsplines.experiments.regularizers.protocol import WEAK
from lipsplines.experiments.regularizers.run import build as build_regularizer
from lipsplines.export.denoisers import INDEX, NAMES, SECOND
from lipsplines.export.regularizers import INDEX as REGULARIZERS_INDEX
from lipsplines.export.storage import save_model
from lipsplines.runner.references import reference_records

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "shipped"  # key in the provenance of a record whose weights come with the package
LEFT_OUT = "left_out"  # key in that of a record whose weights a run computes again
KEPT = ("activation", "constraint", "sigma", "channels", "depth", "steps", "batch_size", "profile")


def export(store: Store, folder: Path) -> dict[str, list[dict]]:
    """Write the weights of the networks of `NAMES`, and the index; return the index.

    The runs are those of the study with the largest networks of which weights are kept, beside
    their records or, from an earlier call, in the folder.

    Raises
    ------
    ValueError
        If a file in the folder is not the one that its record names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, list[dict]] = {}
    kinds = {(*kind, int(name == SECOND)): name for name, kind in NAMES.items()}
    # Of most of the many short trainings no weights are kept.
    kept = [r for r in reference_records(EXPERIMENT, store) if r.tensors or SHIPPED in r.provenance]
    for record in shown(kept):
        s = record.settings
        name = kinds.get((s["activation"], s["constraint"], s["run"]))
        if name is None:
            continue
        path = folder / f"{name}-{s['sigma']}.safetensors"
        if record.tensors:
            model = build(s)
            model.load_state_dict(store.tensors(record))
            save_model(model, path, {"name": name})
            entry = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            record = store.strip(record, **{SHIPPED: entry})
        entry = record.provenance[SHIPPED]
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            raise ValueError(f"{path} is not the file that {store.path(s)} names.")
        index.setdefault(name, []).append(
            {
                **entry,
                "settings": {key: s[key] for key in KEPT},
                "lipschitz": record.lipschitz,
                "test": {
                    mode: {metric: float(np.mean(v)) for metric, v in record.metrics[mode].items()}
                    for mode in ("noisy", *denoising.MODES)
                },
            }
        )
    index = {
        name: sorted(index[name], key=lambda entry: entry["settings"]["sigma"])
        for name in NAMES
        if name in index
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return index


def export_regularizers(store: Store, folder: Path) -> dict[str, list[dict]]:
    """Write the weights of the regularizers that come with the library, and their index."""
    kinds = {OURS: "convex", WEAK: WEAK}
    bounds = ("gradient_lipschitz", "weak_convexity")
    index: dict[str, list[dict]] = {kind: [] for kind in kinds.values()}
    for record in shipped(reference_records(REGULARIZERS, store)):
        s = record.settings
        if s["method"] not in kinds:
            continue
        kind = kinds[s["method"]]
        model = build_regularizer(s)
        model.load_state_dict(store.tensors(record))
        path = save_model(model, folder / f"{kind}-{s['sigma']}.safetensors", {"name": kind})
        index[kind].append(
            {
                "file": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "settings": {key: s[key] for key in ("sigma", "steps", "batch_size", "profile")},
                **{name: record.metrics[name] for name in bounds if name in record.metrics},
                "test": {
                    name: {metric: float(np.mean(v)) for metric, v in record.metrics[name].items()}
                    for name in ("noisy", "denoised")
                },
            }
        )
    for entries in index.values():
        entries.sort(key=lambda entry: entry["settings"]["sigma"])
    (folder / REGULARIZERS_INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return index


def leave_out(store: Store) -> int:
    """Delete the weights of trainings that have done all their reconstructions; return how many.

    Those that the profile ``quick`` of ``reconstruction_trainings`` uses stay. A record keeps name
    and SHA-256 of its file.
    """
    reconstructions = store.select("reconstruction_trainings", "reduced")
    uses = Counter(record.provenance["data"]["denoiser"] for record in reconstructions)
    left_out = 0
    quick = trainings.PROFILE_SIZES["quick"].runs
    planned = {(own["activation"], own["run"]) for own in trainings.cells("reduced")}
    for activation, run in sorted(planned):
        record = store.get(trainings.denoiser_settings(activation, run))
        if run < quick or record is None or record.tensors is None:
            continue
        if uses[record.tensors["sha256"]] == len(trainings.KINDS):
            store.strip(record, **{LEFT_OUT: record.tensors})
            left_out += 1
    return left_out


if __name__ == "__main__":
    own_store, own_folder = Store(ROOT / "results"), ROOT / "lipsplines" / "weights"
    for kind, found in (
        ("denoisers", export(own_store, own_folder)),
        ("regularizers", export_regularizers(own_store, own_folder)),
    ):
        print(f"{sum(map(len, found.values()))} {kind} in lipsplines/weights")
    print(f"weights of {leave_out(own_store)} trainings left out")
