"""Random numbers and shuffles: the same integers on every backend, and as random as they should be.

The bounds below are wide: a fair generator would exceed them in one test out of a million, and the seeds are fixed.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradflow.backends.kernel_sources import kernel_folder, source_text
from gradflow.ops import OPS
from gradflow.random import RandomNumbers, _philox_rounds, philox, shuffle, shuffled_rows
from tests.kernels.c_library import COMPILER, compiled
from tests.ops.targets import TARGETS, BackendTarget, CTarget, make_target

# Test vectors that the authors of Philox publish with their library Random123: counter, key, result.
Words: TypeAlias = tuple[int, ...]
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SEED = 0x123456789ABCDEF0


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> BackendTarget | CTarget:
    return make_target(request.param)


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2).sum() / expected)


def chi_square_limit(degrees: int) -> float:
    """Return the value that chi-square exceeds about once in a million times, after Wilson & Hilferty (1931)."""
    return degrees * (1 - 2 / (9 * degrees) + 4.75 * math.sqrt(2 / (9 * degrees))) ** 3


NO_WEIGHTS = {"row_weight": None, "places": None, "batch_row_weight": None}


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_definition_of_philox_gives_the_published_words(counter: Words, key: Words, answer: Words) -> None:
    words = _philox_rounds(np.array(counter, np.uint64)[:, None], key[1] << 32 | key[0])
    assert words.ravel().tolist() == list(answer)


def test_philox_takes_its_counter_from_block_stream_and_step() -> None:
    step, seed = 0x0370734413198A2E, SEED
    words = philox(10, seed=seed, stream=5, step=step)
    assert words.dtype == np.uint32
    counters = np.array([[0, 1, 2], [5] * 3, [0x13198A2E] * 3, [0x03707344] * 3], np.uint64)
    np.testing.assert_array_equal(words, _philox_rounds(counters, seed).T.ravel()[:10])


PHILOX_KERNEL = """#include "gradflow.h"
#include "philox.h"

GF_KERNEL(words, gf_word *out, gf_word block, gf_word stream, gf_long_word step, gf_long_word seed) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW {
    const gf_words words = gf_philox(block, stream, step, seed);
    for (int lane = 0; lane < 4; lane++) out[lane] = words.word[lane];
  }
}
"""


@pytest.fixture
def philox_kernel(tmp_path: Path) -> Path:
    for header in ("gradflow.h", "vector_math.h", "philox.h"):
        shutil.copy(kernel_folder() / header, tmp_path)
    (tmp_path / "words.cu").write_text(PHILOX_KERNEL)
    return tmp_path / "words.cu"


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_of_the_c_compiler_gives_the_published_words(
    counter: Words, key: Words, answer: Words, philox_kernel: Path
) -> None:
    words = np.zeros(4, np.uint32)
    long_word, index = ctypes.c_ulonglong, ctypes.c_longlong
    compiled(philox_kernel, np.dtype(np.float32)).words(
        index(0),
        index(1),
        ctypes.c_void_p(words.ctypes.data),
        ctypes.c_uint(counter[0]),
        ctypes.c_uint(counter[1]),
        long_word(counter[3] << 32 | counter[2]),
        long_word(key[1] << 32 | key[0]),
    )
    assert words.tolist() == list(answer)


@pytest.mark.gpu
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_on_the_gpu_gives_the_published_words(
    counter: Words, key: Words, answer: Words, philox_kernel: Path
) -> None:
    import cupy

    words = cupy.zeros(4, cupy.uint32)
    module = cupy.RawModule(code=source_text(philox_kernel, "float32"), options=("--std=c++17",))
    step, seed = np.uint64(counter[3] << 32 | counter[2]), np.uint64(key[1] << 32 | key[0])
    arguments = (words, np.uint32(counter[0]), np.uint32(counter[1]), step, seed)
    module.get_function("words")((1,), (32,), arguments)
    assert words.get().tolist() == list(answer)


@pytest.mark.parametrize("target", ["reference", *TARGETS], indirect=True)
@pytest.mark.parametrize("n", [1, 3, 4, 5, 63, 64, 8191])
def test_dropout_keeps_where_the_word_is_at_least_the_threshold(target: BackendTarget | CTarget, n: int) -> None:
    step, epoch = 2**32 + 6, 2**31 + 5
    words = philox(n, seed=SEED, stream=0x02000001, step=epoch << 32 | 6)
    for threshold in (0, int(words[n // 2]), int(words[n // 2]) + 1, 2**31, 2**32 - 1):
        arrays = [np.ones(n), np.full(n, 7.0), np.array([step, epoch, 6, np.iinfo(np.int64).max])]
        x, y, clock = map(target.backend.from_host, arrays)
        arguments = {"x": x, "y": y, "clock": clock, "threshold": min(threshold, 2**32 - 1), "scale": 1.5}
        arguments |= {"seed": SEED, "stream": 0x02000001, "rows_before": 0, "words_before": 0}
        target.run(OPS["dropout"], arguments)
        kept = words >= min(threshold, 2**32 - 1)
        np.testing.assert_array_equal(target.backend.to_host(y), np.where(kept, 1.5, 0))


def test_uniform_numbers_lie_below_one_and_are_spread_evenly() -> None:
    n = 2**18
    u = RandomNumbers(SEED, 0x01000000).uniform(0.0, 1.0, (n,))
    assert u.min() >= 0
    assert u.max() < 1
    # The mean of n numbers has a standard deviation of 1/sqrt(12 n), their variance one of 1/sqrt(180 n): five of each.
    assert abs(u.mean() - 1 / 2) < 5 / math.sqrt(12 * n)
    assert abs(u.var() - 1 / 12) < 5 / math.sqrt(180 * n)
    cells = np.bincount((u * 256).astype(int), minlength=256)
    assert chi_square(cells) < chi_square_limit(255)


def test_streams_seeds_and_steps_have_words_of_their_own() -> None:
    settings = [
        {"seed": seed, "stream": stream, "step": step}
        for seed, stream, step in itertools.product((0, 1, 1 << 32), (0, 1), (0, 1, 1 << 32))
    ]
    rows = {tuple(philox(8, **setting).tolist()) for setting in settings}
    assert len(rows) == len(settings)


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 65, 128, 129, 1025])
def test_shuffled_batches_are_the_rows_of_the_same_order(target: BackendTarget | CTarget, n: int) -> None:
    backend, epoch = target.backend, 2**33 + 1
    order = shuffled_rows(n, seed=SEED, epoch=epoch)
    for position, rows in ((0, n), (n // 3, n - n // 3)):
        x = backend.from_host(np.arange(2.0 * n).reshape(n, 2))
        targets = backend.from_host(np.arange(n, dtype=np.int32))
        batch_x, batch_targets = backend.zeros((rows, 2), np.float64), backend.zeros(rows, np.int32)
        clock = backend.from_host(np.array([1, epoch, position, np.iinfo(np.int64).max]))
        arguments = {"x": x, "targets": targets, "batch_x": batch_x, "batch_targets": batch_targets, "clock": clock}
        target.run(OPS["gather_shuffled_batch"], {**arguments, **NO_WEIGHTS, "seed": SEED})
        np.testing.assert_array_equal(backend.to_host(batch_targets), order[position : position + rows])
        np.testing.assert_array_equal(backend.to_host(batch_x)[:, 1], 2 * order[position : position + rows] + 1)


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("name", ["gather_batch", "gather_shuffled_batch"])
def test_batches_of_rows_at_places_are_those_of_a_copy_of_these_rows(
    target: BackendTarget | CTarget, name: str
) -> None:
    backend, random = target.backend, np.random.default_rng(3)
    x, targets, places = random.normal(size=(40, 3)), np.arange(21, dtype=np.int32), random.integers(0, 40, 21)
    settings = {"seed": SEED} if name == "gather_shuffled_batch" else {}
    gathered = []
    for inputs, where in ((x, places), (x[places], None)):
        batch_x, batch_targets = backend.zeros((9, 3), np.float64), backend.zeros(9, np.int32)
        clock = backend.from_host(np.array([1, 7, 9, np.iinfo(np.int64).max]))
        arrays = {"x": backend.from_host(inputs), "targets": backend.from_host(targets), "row_weight": None}
        arrays |= {"places": None if where is None else backend.from_host(where), "batch_x": batch_x}
        arrays |= {"batch_targets": batch_targets, "batch_row_weight": None, "clock": clock}
        target.run(OPS[name], {**arrays, **settings})
        gathered.append((backend.to_host(batch_x), backend.to_host(batch_targets)))
    for at_places, copied in zip(*gathered, strict=True):
        np.testing.assert_array_equal(at_places, copied)


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_shuffled_batches_of_every_length(target: BackendTarget | CTarget) -> None:
    backend = target.backend
    for n, rows in [(n, n) for n in range(1, 41)] + [(150, rows) for rows in (15, 16, 17, 63, 64, 65, 127, 128, 129)]:
        x, batch_x = backend.zeros((n, 1), np.float32), backend.zeros((rows, 1), np.float32)
        targets, batch_targets = backend.from_host(np.arange(n, dtype=np.int32)), backend.zeros(rows, np.int32)
        clock = backend.from_host(np.array([1, 7, n - rows, np.iinfo(np.int64).max]))
        arguments = {"x": x, "targets": targets, "batch_x": batch_x, "batch_targets": batch_targets, "clock": clock}
        target.run(OPS["gather_shuffled_batch"], {**arguments, **NO_WEIGHTS, "seed": SEED})
        order = shuffled_rows(n, seed=SEED, epoch=7)
        np.testing.assert_array_equal(backend.to_host(batch_targets), order[n - rows :])


SHUFFLE_KERNEL = """#include "gradflow.h"
#include "philox.h"
#include "shuffle.h"

GF_KERNEL(places, gf_index *out, gf_index first_place, gf_index n, gf_long_word seed, gf_index epoch, gf_index rows) {
  gf_shuffle shuffle;
  gf_make_shuffle(&shuffle, n, seed, epoch);
  GF_ROW_BLOCKS(first, rows) {
    const gf_index count = gf_block_rows(first);
    gf_index source[GF_ROW_BLOCK];
    gf_shuffled(&shuffle, first_place + first, count, n, source);
    GF_OF_BLOCK(i, count) GF_ONCE_PER_ROW out[first + i] = source[i];
  }
}
"""


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.parametrize("n", [2**31 + 1, 2**32, 2**33 + 1, 2**45 + 3])
def test_more_rows_than_32_bits_can_count_are_shuffled_alike(n: int, tmp_path: Path) -> None:
    for header in ("gradflow.h", "vector_math.h", "philox.h", "shuffle.h"):
        shutil.copy(kernel_folder() / header, tmp_path)
    (tmp_path / "places.cu").write_text(SHUFFLE_KERNEL)
    index, rows = ctypes.c_longlong, 100
    for first in (0, n // 2, n - rows):
        out = np.zeros(rows, np.int64)
        compiled(tmp_path / "places.cu", np.dtype(np.float32)).places(
            index(0),
            index(rows),
            ctypes.c_void_p(out.ctypes.data),
            index(first),
            index(n),
            ctypes.c_ulonglong(SEED),
            index(3),
            index(rows),
        )
        np.testing.assert_array_equal(out, shuffle(np.arange(first, first + rows), n, seed=SEED, epoch=3))


@pytest.mark.parametrize("target", ["numpy", "c"], indirect=True)
def test_a_new_epoch_has_a_new_order_in_the_same_bound_call(target: BackendTarget | CTarget) -> None:
    clock = np.array([1, 0, 0, np.iinfo(np.int64).max])
    rows, batch = np.arange(50, dtype=np.int32), np.zeros(50, np.int32)
    arguments = {"x": np.zeros((50, 1)), "targets": rows, "batch_x": np.zeros((50, 1)), "batch_targets": batch}
    for epoch in (0, 1, 0):
        clock[1] = epoch
        target.run(OPS["gather_shuffled_batch"], {**arguments, **NO_WEIGHTS, "clock": clock, "seed": 3})
        np.testing.assert_array_equal(batch, shuffled_rows(50, seed=3, epoch=epoch))


def test_a_shuffle_is_a_permutation_for_every_small_number_of_rows() -> None:
    for n in range(1, 301):
        np.testing.assert_array_equal(np.sort(shuffled_rows(n, seed=n, epoch=2)), np.arange(n))


@given(
    n=st.integers(1, 70_000),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**62),
)
@example(n=65_536, seed=2**64 - 1, epoch=0)
@example(n=65_537, seed=0, epoch=2**32)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_shuffle_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    order = shuffled_rows(n, seed=seed, epoch=epoch)
    assert order.shape == (n,)
    np.testing.assert_array_equal(np.bincount(order, minlength=n), 1)


def test_shuffles_differ_by_epoch_and_by_seed() -> None:
    orders = {
        tuple(shuffled_rows(100, seed=seed, epoch=epoch).tolist())
        for seed, epoch in itertools.product((0, 1, 2, 1 << 32, 2 << 32), (0, 1, 2, 1 << 32))
    }
    assert len(orders) == 20


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_permutations_of_a_few_rows_are_equally_likely(n: int) -> None:
    trials = 60 * math.factorial(n)
    counts = Counter(tuple(shuffled_rows(n, seed=trial, epoch=trial % 7).tolist()) for trial in range(trials))
    permutations = list(itertools.permutations(range(n)))
    observed = np.array([counts[permutation] for permutation in permutations])
    assert observed.sum() == trials
    assert chi_square(observed) < chi_square_limit(len(permutations) - 1)


@pytest.mark.parametrize("n", [6, 17, 33])
def test_every_row_comes_at_every_place_and_after_every_other_equally_often(n: int) -> None:
    trials = 60 * n
    orders = np.array([shuffled_rows(n, seed=17, epoch=epoch) for epoch in range(trials)])
    places = np.array([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    # Each row and each column of this table has a fixed sum.
    assert chi_square(places) < chi_square_limit((n - 1) ** 2) * n / (n - 1)
    pairs = np.zeros((n, n), int)
    np.add.at(pairs, (orders[:, :-1].ravel(), orders[:, 1:].ravel()), 1)
    off_diagonal = pairs[~np.eye(n, dtype=bool)]
    assert chi_square(off_diagonal) < chi_square_limit(n * (n - 1) - 1)


@pytest.mark.parametrize("n", [140, 1100])
def test_the_fewer_rounds_of_large_data_shuffle_as_well(n: int) -> None:
    trials, parts = 2000, 20
    orders = np.array([shuffled_rows(n, seed=18, epoch=epoch) for epoch in range(trials)])
    part_of = np.arange(n) * parts // n
    for place in (0, 1, n // 2, n - 2):
        here, following = part_of[orders[:, place]], part_of[orders[:, place + 1]]
        assert chi_square(np.bincount(here, minlength=parts)) < chi_square_limit(parts - 1)
        # A row cannot follow itself: pairs within a part are rarer by a factor of 1 - parts / n.
        pairs = np.bincount(here * parts + following, minlength=parts**2).astype(float)
        expected = np.full((parts, parts), trials * (n / parts) / (n - 1) / parts)
        expected[np.diag_indices(parts)] *= 1 - parts / n
        assert ((pairs - expected.ravel()) ** 2 / expected.ravel()).sum() < chi_square_limit(parts**2 - 1)
    steps = np.diff(orders[:, :50], axis=1) % n
    assert chi_square(np.bincount(steps.ravel(), minlength=n)[1:]) < chi_square_limit(n - 2)
