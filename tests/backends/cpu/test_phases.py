"""Phases of a program: however their calls and rows are interleaved, the results are those of the calls in order."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gradflow.backends.cpu.native_call import ArrayUse, Footprint
from gradflow.backends.cpu.phases import MOST_CALLS, Phase, phases

ROWS, ARRAYS = 3, 5
Memory = dict[int, list[object]]

uses = st.builds(
    lambda array, is_written, is_by_row: ArrayUse(array, array + 1, is_written, is_by_row),
    st.integers(0, ARRAYS - 1),
    st.booleans(),
    st.booleans(),
)
calls = st.builds(
    lambda of_call, rows, is_lonely: Footprint(tuple(of_call.values()), rows, is_lonely),
    st.lists(uses, min_size=1, max_size=3).map(lambda found: {use.begin: use for use in found}),
    st.sampled_from([0, 0, ROWS, ROWS, ROWS]),
    st.sampled_from([False, False, False, True]),
)


def run(memory: Memory, place: int, call: Footprint, row: int | None) -> None:
    """Run a call, or a row of it: what it writes tells what it read."""
    read = []
    for use in call.uses:
        values = memory[use.begin]
        read.append(values[row] if row is not None and use.is_by_row else tuple(values))
    for use in call.uses:
        if use.is_written:
            for of_row in range(ROWS) if row is None else [row]:
                memory[use.begin][of_row] = hash((place, of_row, tuple(map(str, read))))


def fresh() -> Memory:
    return {array: [(array, row) for row in range(ROWS)] for array in range(ARRAYS)}


def in_order(program: list[Footprint]) -> Memory:
    memory = fresh()
    for place, call in enumerate(program):
        for row in range(ROWS) if call.rows else [None]:
            run(memory, place, call, row)
    return memory


def interleaved(program: list[Footprint], found: list[Phase], random: Random) -> Memory:
    """Run the phases: rows in any order, each through all calls; calls that are not split by rows in any order."""
    memory = fresh()
    for phase in found:
        if phase.rows and len(phase.places) > 1:
            left = {row: list(phase.places) for row in range(ROWS)}
            while left:
                row = random.choice(list(left))
                run(memory, left[row][0], program[left[row].pop(0)], row)
                if not left[row]:
                    del left[row]
        else:
            for place in random.sample(phase.places, len(phase.places)):
                for row in range(ROWS) if program[place].rows else [None]:
                    run(memory, place, program[place], row)
    return memory


def is_splittable(call: Footprint) -> bool:
    """True if a call keeps what it promises: split by rows, it writes nothing but its own rows."""
    return not call.rows or all(use.is_by_row or not use.is_written for use in call.uses)


@given(st.lists(calls.filter(is_splittable), min_size=1, max_size=8), st.integers(0, 9))
@settings(max_examples=500, deadline=None)
def test_any_order_that_phases_allow_has_the_same_results(program: list[Footprint], seed: int) -> None:
    found = phases(program)
    assert sorted(place for phase in found for place in phase.places) == list(range(len(program)))
    assert interleaved(program, found, Random(seed)) == in_order(program)
    for phase in found:
        assert len(phase.places) == 1 or not any(program[place].is_lonely for place in phase.places)
        assert {program[place].rows for place in phase.places} == {phase.rows}


def of(*written: int, read: tuple[int, ...] = (), whole: tuple[int, ...] = (), rows: int = ROWS) -> Footprint:
    """A call that writes and reads arrays by their rows, and reads others as a whole."""
    own = [ArrayUse(array, array + 1, array in written, rows > 0) for array in (*written, *read)]
    return Footprint((*own, *(ArrayUse(array, array + 1, False, False) for array in whole)), rows)


def test_a_training_step_has_one_phase_of_rows_and_one_of_weights() -> None:
    """0: inputs; 1, 2: outputs of two layers; 3, 4: their gradients; 5, 6: the gradients of their weights."""
    step = [
        of(1, read=(0,)),
        of(2, read=(1,)),
        of(4, read=(2,)),
        of(6, whole=(1, 4), rows=0),
        of(3, read=(4, 1)),
        of(5, whole=(0, 3), rows=0),
        of(7, whole=(5, 6), rows=0),
    ]
    assert phases(step) == [Phase([0, 1, 2, 4], ROWS), Phase([3, 5], 0), Phase([6], 0)]


def test_rows_of_another_array_at_the_same_place_are_other_rows() -> None:
    whole, half = ArrayUse(0, 8, True, True), ArrayUse(0, 4, False, True)
    assert whole.collides(half)
    assert not whole.is_same_rows(half)
    assert [phase.places for phase in phases([Footprint((whole,), 2), Footprint((half,), 2)])] == [[0], [1]]


def test_uses_collide_if_they_overlap_and_one_writes() -> None:
    first, second = ArrayUse(0, 24, True, False), ArrayUse(24, 48, True, False)
    whole = ArrayUse(0, 48, False, False)
    assert not first.collides(second)
    assert first.collides(whole)
    assert not whole.collides(whole)


def test_a_phase_has_no_more_calls_than_its_parts_can_be_counted() -> None:
    """The team counts 128 parts of each in 16 bits."""
    found = phases([of(array, rows=0) for array in range(2 * MOST_CALLS + 1)])
    assert [len(phase.places) for phase in found] == [MOST_CALLS, MOST_CALLS, 1]
    assert 128 * MOST_CALLS < 2**16
