"""The number of threads of a program (pace.c), on simulated machines: no test depends on the time of this one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradflow.backends.cpu.native import native_library
from gradflow.backends.cpu.native_program import CPace

pytestmark = pytest.mark.skipif(native_library() is None, reason="the C kernels were not built, or are left out")

Machine = Callable[[int], float]
"""Returns the seconds that a step takes on a number of threads."""


class Simulation:
    """A program on a machine with ``most`` processors; its time goes on from one simulation to the next."""

    now = 1.0
    is_complete = True

    def __init__(self, most: int, level: int = 0) -> None:
        library = native_library()
        assert library is not None
        self._c = library._library
        self._c.gf_patience.restype = ctypes.c_double
        number = ctypes.c_double
        self._c.gf_learn.argtypes = [ctypes.POINTER(CPace), ctypes.c_int, number, number, ctypes.c_int]
        self.delays = library.delays
        self.most = most
        self.pace = CPace(level=level, tried=level)

    def run(self, machine: Machine, steps: int) -> tuple[float, list[int]]:
        """Return the seconds that some steps took, and the number of threads of each."""
        total, used = 0.0, []
        for _ in range(steps):
            threads = self._c.gf_next_threads(ctypes.byref(self.pace), self.most)
            patience = self._c.gf_patience(ctypes.byref(self.pace))
            seconds = machine(threads)
            if seconds > patience:  # whatever is left is done on one thread; a thread is at most one slice late
                seconds = min(seconds, patience + SLICE + machine(1))
            total += seconds
            Simulation.now += seconds
            self._c.gf_learn(ctypes.byref(self.pace), self.most, Simulation.now, seconds, self.is_complete)
            used.append(threads)
        return total, used


SLICE = 0.01
"""Seconds for which another process keeps a thread from its processor."""


def get_full_credit() -> None:
    """Give the process all the credit that it can have: a second thread gains much."""
    Simulation(2).run(quiet(1, 0.5), 20)


@pytest.fixture(autouse=True)
def full_credit() -> None:
    get_full_credit()


def quiet(*seconds: float) -> Machine:
    """A machine on which a step takes so long on 1, 2, 4 ... threads."""
    return lambda threads: seconds[(threads - 1).bit_length()]


def busy(alone: float, seed: int = 0, chance: float = 0.1) -> Machine:
    """A machine on which a second thread would halve the time, were it not late in some steps."""
    random = Random(seed)
    return lambda threads: alone if threads == 1 else alone / 2 + (SLICE if random.random() < chance else 0)


@pytest.mark.parametrize("seconds", [50e-6, 800e-6, 60e-3])
@pytest.mark.parametrize("level", [0, 1])
def test_a_second_thread_that_helps_is_used(seconds: float, level: int) -> None:
    _, used = Simulation(2, level).run(quiet(seconds, 0.6 * seconds), 2000)
    assert used[-1] == 2
    assert used.count(2) > 0.9 * len(used)


@pytest.mark.parametrize("seconds", [50e-6, 800e-6, 60e-3])
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("slower", [1.02, 1.5, 20])
def test_a_second_thread_that_does_not_help_costs_less_than_a_hundredth(
    seconds: float, level: int, slower: float
) -> None:
    simulation = Simulation(2, level)
    simulation.run(quiet(seconds, slower * seconds), 1000)
    simulation.run(quiet(seconds, slower * seconds), round(2 / seconds))
    total, used = simulation.run(quiet(seconds, slower * seconds), round(4 / seconds))
    assert used.count(1) > 0.9 * len(used)
    assert total < 1.01 * len(used) * seconds
    assert len(used) < 2000 or 2 in used  # it is tried again


@pytest.mark.parametrize("most", [3, 4, 6, 8, 16])
def test_among_several_numbers_of_threads_the_fastest_is_found(most: int) -> None:
    seconds = (100e-6, 60e-6, 50e-6, 70e-6, 90e-6)
    for level in (0, (most - 1).bit_length()):
        _, used = Simulation(most, level).run(quiet(*seconds), 20_000)
        assert used.count(min(most, 4)) > 0.9 * len(used)


def test_never_more_threads_than_there_may_be() -> None:
    simulation = Simulation(8, 3)
    simulation.run(quiet(1, 0.5, 0.3, 0.2), 100)
    simulation.most = 3
    assert max(simulation.run(quiet(1, 0.5, 0.3), 100)[1]) == 3


@given(st.sampled_from([50e-6, 400e-6, 2e-3]), st.floats(0.05, 1), st.integers(0, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_beside_other_work_a_step_takes_little_more_than_on_one_thread(
    seconds: float, chance: float, level: int, seed: int
) -> None:
    get_full_credit()
    simulation, steps = Simulation(2, level), round(3 / seconds)
    total, _ = simulation.run(busy(seconds, seed, chance), steps)
    assert total < 1.03 * steps * seconds + 0.1


def test_a_rare_delay_costs_no_more_than_itself() -> None:
    seconds, steps = 100e-6, 20_000
    late = iter(range(steps))
    machine = lambda threads: seconds if threads == 1 else 0.6 * seconds + (SLICE if next(late) % 10_000 == 5000 else 0)  # noqa: E731
    total, used = Simulation(2).run(machine, steps)
    assert used.count(2) > 0.95 * steps
    assert total < 0.63 * seconds * steps + 3 * SLICE


def test_steps_before_the_team_is_awake_do_not_count_unless_it_stays_asleep() -> None:
    simulation = Simulation(2)
    simulation.run(quiet(100e-6, 60e-6), 2000)
    simulation.is_complete = False
    _, used = simulation.run(quiet(100e-6, 200e-6), 50)
    assert used == [2] * 50
    _, used = simulation.run(quiet(100e-6, 200e-6), 2000)
    assert used.count(1) > 0.9 * len(used)


def test_work_that_ends_is_noticed() -> None:
    simulation = Simulation(2)
    seconds = 500e-6
    simulation.run(busy(seconds), 4000)
    _, used = simulation.run(quiet(seconds, seconds / 2), round(8 / seconds))
    assert used[-1] == 2
    assert used.count(2) > 0.5 * len(used)


def test_work_that_begins_is_noticed() -> None:
    simulation = Simulation(2, 1)
    seconds = 500e-6
    _, used = simulation.run(quiet(seconds, seconds / 2), 4000)
    assert used[-1] == 2
    total, used = simulation.run(busy(seconds), 4000)
    assert total < 1.03 * 4000 * seconds + 0.1


def test_it_is_counted_how_long_other_work_held_a_program_back() -> None:
    simulation = Simulation(2)
    seconds = 500e-6
    run_before, held_before = simulation.delays()
    simulation.run(quiet(seconds, 1.2 * seconds), 4000)
    run, held = simulation.delays()
    assert run - run_before == pytest.approx(2, rel=0.05)
    assert held - held_before < 0.01
    total, _ = simulation.run(busy(seconds, chance=0.3), 4000)
    assert simulation.delays()[1] - held > 0.5 * total


def test_a_process_that_is_held_back_on_one_thread_is_counted_too() -> None:
    random = Random(0)
    simulation = Simulation(2)
    machine = lambda threads: 500e-6 + (3 * SLICE if random.random() < 0.02 else 0)  # noqa: E731
    before = simulation.delays()
    simulation.run(machine, 5000)
    run, held = (after - then for after, then in zip(simulation.delays(), before, strict=True))
    assert held > 0.3 * run
