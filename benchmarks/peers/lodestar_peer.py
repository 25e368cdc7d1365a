"""deeplay's LodeSTAR: a detector from one crop. Runs in an environment of its own.

Calls are a folder with `job.json`. `learn` trains on `crops/0000.npz` as deeplay's example does,
and leaves `model.pt`. `locate` finds objects in each of `images/0000.npz` with every exponent and
quantile that the job names: which of them suit is for the user to find out.
"""

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import exchange

EPOCHS, LENGTH, BATCH, TRANSFORMS, LEARNING_RATE = 200, 400, 8, 4, 1e-4
"""Of the example that deeplay's authors give."""
FACTOR, ADDED = (0.9, 1.1), (-0.1, 0.1)
"""Of the crop's intensities, in the same example."""


def learn(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Train for `seconds` at most; returns `steps` and `full_steps`, those of the whole recipe."""
    torch = import_module("torch")
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 - what deeplay's translations and angles draw from
    model = _built()
    (crop,) = (arrays["image"] for arrays in exchange.read(folder / "crops"))
    image = torch.as_tensor(crop[None, None])
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    model.train()
    full, steps, began = EPOCHS * LENGTH // BATCH, 0, time.process_time()
    while steps < full and time.process_time() - began < job["seconds"]:
        factor = torch.empty(BATCH, 1, 1, 1).uniform_(*FACTOR)
        added = torch.empty(BATCH, 1, 1, 1).uniform_(*ADDED)
        seen, inverse = model.train_preprocess(image * factor + added)
        loss = sum(model.compute_loss(model(seen), inverse).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
    torch.save(model.state_dict(), folder / "model.pt")
    return {"steps": steps, "full_steps": full}


def locate(folder: Path, job: dict[str, Any]) -> None:
    """What each exponent of the weights, and each quantile of the score, finds in each image."""
    torch = import_module("torch")
    model = _built()
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    model.eval()
    every = []
    for arrays in exchange.read(folder / "images"):
        with torch.no_grad():
            said = model(torch.as_tensor(arrays["image"][None, None]))[0]
        found = {}
        for a, alpha in enumerate(job["exponents"]):
            for q, quantile in enumerate(job["quantiles"]):
                places = model.detect_single(
                    said[:-1], said[-1:], alpha, 1 - alpha, quantile, "quantile"
                )
                found[f"{a}_{q}"] = np.asarray(places, float).reshape(-1, 2)
        every.append(found)
    exchange.write(folder / "found", every)


def _built() -> Any:
    deeplay = import_module("deeplay")
    import_module("torch").set_num_threads(1)
    model = deeplay.LodeSTAR(n_transforms=TRANSFORMS).build()
    # some of its layers have no shape before they have seen an image
    model(import_module("torch").zeros(1, 1, 64, 64))
    return model


if __name__ == "__main__":
    raise SystemExit(exchange.answered("deeplay", {"learn": learn, "locate": locate}))
