"""Denoisers trained in float32 and in bfloat16: are they equally good?

``python benchmarks/denoiser_precisions.py`` trains the same small networks, from the same starts
and on the same patches, in both precisions with one thread, and stores what they reach in
``benchmarks/results/denoiser_precisions.json``. It goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from timing import machine, package_versions

from lipsplines import lipschitz_bounds
from lipsplines.experiments.denoising.protocol import SPLINE
from lipsplines.experiments.denoising.run import train
from lipsplines.experiments.pictures.patches import load_images

RESULT = Path(__file__).parent / "results" / "denoiser_precisions.json"
SEEDS, PRECISIONS = range(5), ("float32", "bfloat16")
SIZES = {
    "channels": 16,
    "depth": 5,
    "batch_size": 8,
    "side": 32,
    "steps": 400,
    "points": 2,
    "border": 128,  # of the validation images
    "lr": 1e-2,
    "schedule": "cosine",
    "sigma": 10,
}


def trained(precision: str, seed: int) -> dict[str, Any]:
    """PSNR of the best network on the validation images in dB, and its certified bound."""
    settings = {
        **SIZES,
        "activation": "spline-identity",
        "constraint": "orthogonal",
        "spline": SPLINE,
        "profile": "benchmark",
        "seed": seed,
        "run": 0,
        "precision": precision,
    }
    training = train(settings, load_images("bsd"))
    bounds = lipschitz_bounds(training.model, input_shape=(1, SIZES["side"], SIZES["side"]))
    return {"psnr": training.highest, "upper": bounds.upper, "loss": training.curves["loss"][-1]}


def main() -> None:
    """Train what is missing, print and store."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        **SIZES,
        "spline": SPLINE,
        **machine(),
        "versions": package_versions("lipsplines", "torch", "numba"),
        "rows": {},
    }
    if RESULT.exists():
        result["rows"] = json.loads(RESULT.read_text(encoding="utf-8"))["rows"]
    for seed in SEEDS:
        for precision in PRECISIONS:
            own = result["rows"].setdefault(precision, {})
            if str(seed) not in own:
                own[str(seed)] = trained(precision, seed)
                RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(f"seed {seed} {precision:8} {own[str(seed)]['psnr']:.3f} dB", flush=True)


if __name__ == "__main__":
    main()
