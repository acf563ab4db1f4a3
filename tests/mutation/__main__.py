"""Mutation run: put each fault of `mutants` into a copy of the tree, and check that a test notices.

    python -m tests.mutation [--processes 2] [file ...]

It covers every kernel, every definition of an op, and the host code of metrics, schedules, preprocessing and L-BFGS.
The
exit status is 1 if a fault that `EQUIVALENT` does not explain goes unnoticed. It needs a C compiler and no GPU;
narrow.cu
is CUDA-only and is left to the GPU tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Imported here, so that the forked processes need not import it again; gradflow itself they import anew.
import hypothesis  # noqa: F401
import numpy as np  # noqa: F401
import numpy.testing  # noqa: F401
import pytest  # noqa: F401

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.files import ROOT, files
from tests.mutation.mutants import Mutant, mutants_of_c, mutants_of_python

_COPIED = ("gradflow", "kernels", "tests", "pyproject.toml")


def mutants_of(file: Path, text: str) -> list[Mutant]:
    return list(mutants_of_python(file, text) if file.suffix == ".py" else mutants_of_c(file, text))


def copy_of_tree(folder: Path) -> Path:
    folder.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    # A fault must be noticed by its results, not by an unused variable; an index outside an array traps.
    harness = folder / "tests" / "kernels" / "c_library.py"
    flags = '"-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"'
    harness.write_text(harness.read_text().replace('"-Werror"', flags))
    return folder


def fork_check(tree: Path, file: Path) -> int:
    """Start a process that checks the tree; its exit status is 0 if no test noticed anything."""
    if process := os.fork():
        return process
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(tree)
    sys.path[0] = str(tree)
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.partition(".")[0] in ("gradflow", "tests")]:
        del sys.modules[name]
    try:
        from tests.mutation.check import notices

        os._exit(notices(str(file)))
    finally:
        os._exit(1)


def run(work: list[Mutant], texts: dict[Path, str], processes: int) -> list[str]:
    """Check all mutants of the files, several at a time; return descriptions of the unnoticed ones."""
    survivors = []
    with tempfile.TemporaryDirectory(prefix="gradflow-mutation-") as folder:
        free = [copy_of_tree(Path(folder) / str(index)) for index in range(processes)]
        sound = fork_check(free[0], Path("kernels/layers/relu.cu"))
        assert os.waitpid(sound, 0)[1] == 0, "the tests fail without a fault: run pytest first"
        running: dict[int, tuple[Mutant, Path]] = {}
        waiting = list(reversed(work))
        while waiting or running:
            if waiting and free:
                mutant, tree = waiting.pop(), free.pop()
                (tree / mutant.file).write_text(mutant.apply(texts[mutant.file]))
                running[fork_check(tree, mutant.file)] = mutant, tree
                continue
            process, status = os.wait()
            mutant, tree = running.pop(process)
            (tree / mutant.file).write_text(texts[mutant.file])
            free.append(tree)
            if status == 0:
                survivors.append(mutant.describe(texts[mutant.file]))
                print(f"unnoticed: {survivors[-1]}", flush=True)
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation run over all formulas.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("files", nargs="*", type=Path, help="only these, relative to the root")
    arguments = parser.parse_args()
    began = time.monotonic()
    texts = {file: (ROOT / file).read_text() for file in arguments.files or files()}
    mutants = [mutant for file, text in texts.items() for mutant in mutants_of(file, text)]
    work = [mutant for mutant in mutants if mutant.describe(texts[mutant.file]) not in EQUIVALENT]
    survivors = run(work, texts, arguments.processes)
    print(
        f"{len(mutants)} faults, {len(mutants) - len(work)} of them without effect, {len(survivors)} unnoticed; "
        f"{(time.monotonic() - began) / 60:.1f} minutes"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
