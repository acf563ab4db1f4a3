"""Compare the results of this tree with those of an earlier commit, bit for bit, on this machine:

    python -m tests.same_results COMMIT

It builds the commit in a temporary worktree and trains the same networks with both. Bits differ between processors, so
no result is stored: a change that must not affect results is compared with the commit before it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def runs() -> dict[str, Callable[[], Any]]:
    """Return the trainings to compare, by name, through names that earlier commits have too."""
    import numpy as np

    import gradflow as gf

    random = np.random.default_rng(0)
    x, labels = random.standard_normal((301, 12)), random.integers(3, size=301)
    y, weight = x @ random.standard_normal((12, 2)), random.uniform(0.5, 2, 301)

    def classifier(backend: str, **settings: Any) -> Any:
        network = gf.MLP([12, 20, 9, 3], "gelu", dropout=0.2, seed=3, backend=backend)
        trainer = gf.Trainer(network, "softmax_cross_entropy", settings.pop("optimizer", "adam"), **settings)
        history = trainer.fit(
            x,
            labels,
            epochs=4,
            batch_size=32,
            validation_data=(x[:50], labels[:50]),
            sample_weight=weight,
            progress=False,
        )
        trainer.fit(x, labels, epochs=2, batch_size=50, accumulate=2, drop_last=True, progress=False)
        return network, history

    def regressor(loss: str, optimizer: str, **settings: Any) -> Any:
        block = gf.Residual([gf.Dense(16, 16), gf.LayerNorm(16)])
        layers = [gf.Dense(12, 16), gf.BatchNorm(16), gf.ReLU(), block, gf.Dense(16, 2)]
        network = gf.Sequential(layers, dtype="float64", backend="numpy")
        trainer = gf.Trainer(network, loss, optimizer, standardize_targets=True, **settings)
        return network, trainer.fit(x, y, epochs=3, batch_size=64, progress=False)

    return {
        "adam": lambda: classifier("numpy"),
        "adam, reference": lambda: classifier("reference"),
        "sgd": lambda: classifier("numpy", optimizer=gf.SGD(0.05, momentum=0.9, nesterov=True), l2=1e-3, clip_norm=1.0),
        "average": lambda: classifier("numpy", optimizer=gf.AdamW(gf.CosineSchedule(1e-2, epochs=4)), average=0.9),
        "metrics": lambda: classifier("numpy", metrics=["f1", "roc_auc"], layer_statistics=True),
        "huber": lambda: regressor("huber", "rmsprop", l1=1e-4),
        "absolute error": lambda: regressor("mean_absolute_error", "lion"),
    }


def digits(folder: Path) -> tuple[Any, Any]:
    """Train on the digits with the command line, and return the trained network and its history."""
    import gradflow as gf

    words = ["train", "digits", "--epochs", "5", "--output", str(folder / "digits")]
    subprocess.run([sys.executable, "-m", "gradflow", *words], check=True, stdout=subprocess.DEVNULL)
    return gf.load(folder / "digits", backend="numpy"), (folder / "digits" / "history.csv").read_text()


def results() -> dict[str, str]:
    """Return a SHA-256 of the weights and the history of each training, by name."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: run() for name, run in runs().items()} | {"digits": digits(Path(folder))}
    sums = {}
    for name, (network, history) in found.items():
        digest = hashlib.sha256()
        for key, array in network.get_weights().items():
            digest.update(f"{key} {array.dtype} {array.shape} ".encode() + array.tobytes())
        values = history if isinstance(history, str) else {key: history[key] for key in history}
        digest.update(json.dumps(values).encode())
        sums[name] = digest.hexdigest()
    return sums


def results_of(tree: Path) -> dict[str, str]:
    """Return the results of the gradflow in a tree, with this file's trainings."""
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=tree, check=True)
    environment = os.environ | {"PYTHONPATH": str(tree)}
    # -P: or the folders beside this file would hide modules of the same name.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--print"]
    done = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("commit", nargs="?", help="the commit to compare with")
    arguments.add_argument("--print", action="store_true", help="print the results of the gradflow that is imported")
    options = arguments.parse_args()
    if options.print or options.commit is None:
        print(json.dumps(results()))
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(tree), options.commit], cwd=ROOT, check=True
        )
        try:
            before = results_of(tree)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    now = results_of(ROOT)
    for name, digest in before.items():
        print(f"{name:<20}{'the same bits' if now[name] == digest else 'DIFFERENT'}")
    sys.exit(now != before)


if __name__ == "__main__":
    main()
