"""Many networks at once, against loops and vmap: python -m benchmarks.pack.

Every contestant trains P networks on the same data, in the same batches and from the same weights; first the losses are
compared. Each measurement runs in a process of its own, in turn with the others. Then a randomized search on two data
sets: `PackSearchCV` against scikit-learn's `RandomizedSearchCV` over its own estimator and that of skorch, with two
processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import in_brackets, machine_line, table
from benchmarks.networks import LEARNING_RATES, Network
from benchmarks.real_data import DATA_SETS, DataSet
from benchmarks.rounds import ratios, rounds_in_turn, spread
from gradflow.backends.cpu.processors import processors

NETWORKS = {
    network.name: network
    for network in (
        Network("T", (16, 64, 64, 2), batch_size=64, steps=156),
        Network("S", (64, 128, 64, 10), batch_size=32, steps=312),
    )
}
"""The networks, each on about 10,000 rows."""

PACK, THREADS, LOOP = "gradflow, pack", "gradflow, threads", "gradflow, loop"
SKORCH = "skorch, joblib"
SKLEARN, TORCH, VMAP, JAX = "scikit-learn, joblib", "PyTorch, loop", "PyTorch, vmap", "JAX, vmap"
CONTESTANTS = (PACK, THREADS, LOOP, SKLEARN, TORCH, VMAP, JAX)
SEARCHES = (PACK, SKLEARN, SKORCH)
_MOST = {LOOP: 8, SKLEARN: 8, TORCH: 8}
"""Members up to which a contestant is measured, whose time for a member does not depend on their number."""
_EPOCHS = 10
_SLOW_EPOCHS = 2  # of contestants that take many times as long, and of large numbers of members
_CHECKED_STEPS, _TOLERANCE = 10, 1e-4
_CANDIDATES = 64
_SEARCHED = ("digits", "breast_cancer")


def epochs_of(contestant: str, members: int) -> int:
    """Return the number of epochs to measure."""
    is_slow = contestant in (SKLEARN, TORCH, VMAP, JAX) or members > 64
    return _SLOW_EPOCHS if is_slow else _EPOCHS


# -- contestants ------------------------------------------------------------------------------------------------------


def trainers(network: Network, members: int, threads: int | None = None) -> list[Any]:
    """Return gradflow's trainers, all from the same weights."""
    import gradflow as gf

    made = []
    for seed in range(members):
        of_member = gf.MLP(network.sizes, seed=seed, backend="numpy")
        weights = {}
        for layer, (weight, bias) in enumerate(network.initial_parameters()):
            weights |= {f"{2 * layer}.weight": weight, f"{2 * layer}.bias": bias}
        of_member.set_weights(weights)
        made.append(gf.Trainer(of_member, network.loss, gf.Adam(LEARNING_RATES["adam"]), threads=threads))
    return made


def with_gradflow(contestant: str, network: Network, members: int, epochs: int) -> list[float]:
    """Train with gradflow; return the mean losses of the last member's epochs."""
    import gradflow as gf

    x, y = network.data()
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": network.batch_size, "shuffle": False, "progress": False}
    made = trainers(network, members, threads=1 if contestant == THREADS else None)
    if contestant == PACK:
        gf.Pack(made).fit(x, y, **settings)
    elif contestant == LOOP:
        for trainer in made:
            trainer.fit(x, y, **settings)
    else:
        with ThreadPoolExecutor(processors()) as pool:
            list(pool.map(lambda trainer: trainer.fit(x, y, **settings), made))
    return list(made[-1].history["loss"])


def _with_sklearn(network: Network, members: int, epochs: int) -> list[float]:
    from joblib import Parallel, delayed

    from benchmarks.contestants.with_sklearn import Sklearn

    def train(model: Any) -> list[float]:
        for _ in range(epochs):
            model.train()
        return list(model._model.loss_curve_[-epochs:])

    models = [Sklearn(network, "adam") for _ in range(members)]
    losses: list[list[float]] = Parallel(n_jobs=processors())(delayed(train)(model) for model in models)
    return losses[-1]


def _with_torch(network: Network, members: int, epochs: int) -> list[float]:
    import torch

    from benchmarks.contestants.with_torch import EagerTorch

    models = [EagerTorch(network, "adam") for _ in range(members)]
    losses = []
    for model in models:
        for _ in range(epochs):
            steps = [model._step(torch.from_numpy(x), torch.from_numpy(y)) for x, y in network.batches()]
            losses.append(float(torch.stack([loss.detach() for loss in steps]).mean()))
    return losses[-epochs:]


def _with_vmap(network: Network, members: int, epochs: int) -> list[float]:
    import torch
    from torch.func import functional_call, grad_and_value, vmap

    from benchmarks.contestants.with_torch import EagerTorch

    model = EagerTorch(network, "adam")._model
    stacked = {
        name: parameter.detach().expand(members, *parameter.shape).clone().requires_grad_()
        for name, parameter in model.named_parameters()
    }
    optimizer = torch.optim.Adam(stacked.values(), lr=LEARNING_RATES["adam"], fused=True)

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(functional_call(model, parameters, (x,)), y)

    gradients = vmap(grad_and_value(loss), in_dims=(0, None, None))
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in network.batches()]
    losses = []
    for _ in range(epochs):
        of_steps = []
        for x, y in batches:
            found, values = gradients({name: each.detach() for name, each in stacked.items()}, x, y)
            for name, parameter in stacked.items():
                parameter.grad = found[name]
            optimizer.step()
            of_steps.append(values[-1])
        losses.append(float(torch.stack(of_steps).mean()))
    return losses


def train(contestant: str, network: Network, members: int, epochs: int) -> list[float]:
    """Train; return the mean losses of the last member's epochs."""
    if contestant == SKLEARN:
        return _with_sklearn(network, members, epochs)
    if contestant == JAX:
        from benchmarks.contestants.with_jax import train_many

        return train_many(network, members, epochs)
    if contestant in (TORCH, VMAP):
        return (_with_torch if contestant == TORCH else _with_vmap)(network, members, epochs)
    return with_gradflow(contestant, network, members, epochs)


def measured(contestant: str, network: Network, members: int) -> dict[str, Any]:
    """Return the seconds of an epoch of a member in this process, and the mean loss of the first ten steps."""
    warnings.simplefilter("ignore")
    first = Network(network.name, network.sizes, network.batch_size, _CHECKED_STEPS)
    loss = train(contestant, first, min(members, 2), 1)[0]  # also the warm-up
    if contestant == JAX:
        train(contestant, network, members, 1)  # compiles for these sizes
    epochs = epochs_of(contestant, members)
    began = time.perf_counter()
    train(contestant, network, members, epochs)
    return {"seconds": (time.perf_counter() - began) / members / epochs, "loss": loss}


# -- comparison -------------------------------------------------------------------------------------------------------


def in_process(arguments: list[str]) -> Any:
    """Return what this module prints as JSON with these arguments, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.pack", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def compare(network: Network, members: int, contestants: list[str], rounds: int) -> dict[str, Any]:
    """Return the seconds of an epoch of a member, by contestant and round.

    Raises:
        SystemExit: if the losses differ.
    """
    losses: dict[str, float] = {}

    def measure(contestant: str) -> float:
        found = in_process(["--one", contestant, network.name, str(members)])
        losses[contestant] = found["loss"]
        return float(found["seconds"])

    seconds = rounds_in_turn({name: partial(measure, name) for name in contestants}, rounds)
    for name, loss in losses.items():
        # With two classes, scikit-learn has one output.
        if abs(loss - losses[PACK]) > _TOLERANCE * losses[PACK] and not (name == SKLEARN and network.sizes[-1] == 2):
            raise SystemExit(f"{name} has the loss {loss} in the first steps of {network}, and the pack {losses[PACK]}")
    return {"network": str(network), "members": members, "seconds": seconds}


def searched(library: str, name: str, candidates: int) -> dict[str, float]:
    """Return the seconds of a randomized search with five folds, and the best mean score."""
    from sklearn.model_selection import RandomizedSearchCV

    from gradflow.sklearn import PackSearchCV

    warnings.simplefilter("ignore")
    split = DATA_SETS[name].split(0)
    model, drawn = _model_and_candidates(library, DATA_SETS[name], split.x_train.shape[1], len(set(split.y_train)))
    settings: dict[str, Any] = {"n_iter": candidates, "cv": 5, "random_state": 0}
    search: Any = PackSearchCV(model, drawn, **settings)
    if library != PACK:
        search = RandomizedSearchCV(model, drawn, n_jobs=2, **settings)
    began = time.perf_counter()
    search.fit(split.x_train, split.y_train)
    return {"seconds": time.perf_counter() - began, "score": float(search.best_score_)}


def _model_and_candidates(library: str, data: DataSet, n_in: int, n_out: int) -> tuple[Any, dict[str, Any]]:
    """Return an estimator, and the distributions of its penalty, learning rate and hidden layers."""
    from scipy.stats import loguniform
    from sklearn.neural_network import MLPClassifier as Theirs

    from gradflow.sklearn import MLPClassifier

    penalty, rate, hidden = loguniform(1e-5, 1e-1), loguniform(1e-4, 1e-2), [(64,), (64, 64), (128, 64)]
    if library == SKORCH:
        from benchmarks.contestants.with_skorch import classifier

        model = classifier(n_in, n_out, epochs=data.epochs, batch_size=data.batch_size)
        # The penalty of scikit-learn is divided by the rows of a batch.
        decay = loguniform(1e-5 / data.batch_size, 1e-1 / data.batch_size)
        return model, {"optimizer__weight_decay": decay, "optimizer__lr": rate, "module__hidden": hidden}
    kind = MLPClassifier if library == PACK else Theirs
    model = kind(max_iter=data.epochs, batch_size=data.batch_size, random_state=0, n_iter_no_change=1000)
    return model, {"alpha": penalty, "learning_rate_init": rate, "hidden_layer_sizes": hidden}


def compare_searches(data: str, libraries: list[str], candidates: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of a search on a data set, by library and round, and the best score of each."""
    scores: dict[str, float] = {}

    def measure(library: str) -> float:
        found = in_process(["--search", library, data, str(candidates)])
        scores[library] = found["score"]
        return float(found["seconds"])

    seconds = rounds_in_turn({library: partial(measure, library) for library in libraries}, rounds)
    return {"data": data, "seconds": seconds, "scores": scores}


def markdown(result: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    rows = []
    for entry in result["packs"]:
        pack = entry["seconds"][PACK]
        for name, seconds in entry["seconds"].items():
            times = f"{spread(ratios(seconds, pack)).median:.2f}"
            shown = in_brackets(spread(seconds), lambda value: f"{1e3 * value:.2f}")
            rows.append([entry["network"], str(entry["members"]), name, shown, times])
    searches = [
        [
            entry["data"],
            library,
            in_brackets(spread(seconds), lambda value: f"{value:.1f}"),
            f"{spread(ratios(seconds, entry['seconds'][PACK])).median:.1f}",
            f"{entry['scores'][library]:.3f}",
        ]
        for entry in result["searches"]
        for library, seconds in entry["seconds"].items()
    ]
    counts = {len(seconds) for entry in result["packs"] for seconds in entry["seconds"].values()}
    rounds = " or ".join(map(str, sorted(counts)))
    parts = [
        "# Many networks at once",
        machine_line(result),
        *(f"Kept from an earlier run: {machine_line({'machine': each})}" for each in [result.get("earlier")] if each),
        f"Milliseconds for an epoch of a member, with Adam, median and quartiles of {rounds} rounds; the last "
        "column is the median of the ratios to the pack in each round. Everything counts but importing the "
        "libraries, and compiling in JAX. Each member's losses were the same first. For loops, whose time for a member "
        "does not depend on the number of members, it is given for few.",
        table(["network (rows of a batch)", "members", "contestant", "ms per member and epoch", "pack = 1"], rows),
        f"A randomized search of {result['candidates']} candidates with five folds, in seconds: `PackSearchCV`, and "
        "`RandomizedSearchCV(..., n_jobs=2)` over the estimators of scikit-learn and skorch. All train for the same "
        "number of epochs, with the same batches and ranges of settings; the last column is the best mean score.",
        table(["data", "contestant", "seconds", "gradflow = 1", "accuracy"], searches),
    ]
    return "\n\n".join(parts) + "\n"


def keep_others(result: dict[str, Any], folder: Path) -> None:
    """Add what the results in a folder have of other networks, numbers of members and data sets."""
    earlier = json.loads((folder / "pack.json").read_text())
    for part, names in (("packs", ("network", "members")), ("searches", ("data",))):
        measured = [[entry[name] for name in names] for entry in result[part]]
        kept = [entry for entry in earlier[part] if [entry[name] for name in names] not in measured]
        result[part] = kept + result[part]
    result["earlier"] = earlier["machine"]


def installed(contestants: tuple[str, ...]) -> list[str]:
    """Return the contestants whose packages are installed."""
    import importlib.util

    needs = {SKLEARN: "sklearn", TORCH: "torch", VMAP: "torch", JAX: "jax", SKORCH: "skorch"}
    return [name for name in contestants if importlib.util.find_spec(needs.get(name, "numpy")) is not None]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write pack.json and pack.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description=__doc__)
    parser.add_argument("--members", nargs="+", type=int, default=[1, 8, 64, 512], help="default: %(default)s")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument("--contestants", nargs="+", choices={*CONTESTANTS, *SEARCHES}, help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--candidates", type=int, default=_CANDIDATES, help="of the search; default: %(default)s")
    parser.add_argument("--searches", type=int, default=3, help="rounds of it; default: %(default)s")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="keep other results that are in the folder")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--search", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        contestant, network, members = options.one
        print(json.dumps(measured(contestant, NETWORKS[network], int(members))))
        return
    if options.search:
        library, name, candidates = options.search
        print(json.dumps(searched(library, name, int(candidates))))
        return
    result: dict[str, Any] = {"machine": machine(), "candidates": options.candidates, "packs": [], "searches": []}
    chosen = {PACK, *(options.contestants or (*CONTESTANTS, *SEARCHES))}
    contestants, libraries = (installed(tuple(n for n in each if n in chosen)) for each in (CONTESTANTS, SEARCHES))
    for name in options.networks:
        for members in options.members:
            able = [each for each in contestants if members <= _MOST.get(each, members)]
            result["packs"].append(compare(NETWORKS[name], members, able, options.rounds))
            print(f"measured: {members} of {name}", flush=True)
    for data in _SEARCHED if options.searches and len(libraries) > 1 else ():
        result["searches"].append(compare_searches(data, libraries, options.candidates, options.searches))
        print(f"searched: {data}", flush=True)
    if options.keep:
        keep_others(result, options.output)
    write_results(options.output, "pack", result, markdown(result))
    print(f"\n{markdown(result)}\nwritten: {options.output}")


if __name__ == "__main__":
    main()
