"""``gradflow bench``: its verdicts on given times, and that it measures, prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradflow.cli.bench import StepTimes, crossover, verdict
from tests.cli.command import gradflow

_SMALL = ("bench", "--widths", "4,2", "--batch-sizes", "3")


def _measurements(*seconds: tuple[float, float | None]) -> list[StepTimes]:
    """Measurements of 32, 64, 128, ... units, from pairs of seconds on the CPU and on the GPU."""
    return [StepTimes(32 * 2**place, 256, cpu, gpu) for place, (cpu, gpu) in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "width", "words"),
    [
        ([(1, 2), (2, 2), (4, 3), (9, 4)], 128, "from 128 units on, the GPU wins"),
        ([(3, 2), (4, 2)], 32, "the GPU wins at every width, from 32 to 64 units"),
        ([(1, 2), (2, 2)], None, "the CPU wins at every width, from 32 to 64 units"),
        ([(3, 2), (1, 2), (4, 2)], 128, "from 128 units on, the GPU wins"),
        ([(3, 2), (5, 2), (1, 2)], None, "no clear crossover: the GPU wins at 32, 64 units, but not at 128"),
        ([(3, None), (5, None)], None, "the CPU wins at every width, from 32 to 64 units"),
    ],
)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_the_crossover_of_given_times(
    seconds: list[tuple[float, float | None]], width: int | None, words: str, is_reversed: bool
) -> None:
    measurements = _measurements(*seconds)
    if is_reversed:
        measurements.reverse()
    assert crossover(measurements) == width
    assert verdict(measurements) == words


def test_without_a_gpu_it_says_so_and_shows_the_cpu(tmp_path: Path) -> None:
    # A library path without a CUDA driver, and no visible device if there is one.
    done = gradflow(*_SMALL, "--output", tmp_path / "new", CUDA_VISIBLE_DEVICES="", SIMGPU_DEVICES="0")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert f"no GPU, so only the CPU was timed: {facts['gpu_problem']}" in done.stdout
    assert "CPU / GPU" not in done.stdout
    assert "verdicts" not in facts
    assert facts["device"]["gpu"] is None
    assert [(case["batch_size"], case["width"]) for case in facts["measurements"]] == [(3, 2), (3, 4)]
    for case in facts["measurements"]:
        assert 0 < case["cpu_seconds"] < 10
        assert case["gpu_seconds"] is None
        assert f"{1e6 * case['cpu_seconds']:,.0f}" in done.stdout


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert gradflow(*_SMALL, "--output", tmp_path).returncode == 0
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.gpu
def test_with_a_gpu_both_are_measured_and_the_winner_is_named(tmp_path: Path) -> None:
    done = gradflow(*_SMALL, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench.json").read_text())
    measurements = [StepTimes(**case) for case in facts["measurements"]]
    assert len(measurements) == 2
    assert all(case.gpu_seconds is not None and case.gpu_seconds > 0 for case in measurements)
    assert facts["gpu_problem"] is None
    assert facts["device"]["gpu"] in done.stdout
    assert facts["verdicts"] == {"3": verdict(measurements)}
    assert f"batches of 3: {verdict(measurements)}" in done.stdout
    assert "CPU / GPU" in done.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--widths", "32,many"), "--widths must be whole numbers above 0 separated by commas"),
        (("--widths", "0"), "got '0'"),
        (("--batch-sizes", ""), "--batch-sizes must be whole numbers above 0"),
    ],
)
def test_wrong_input_is_one_line(options: tuple[str, ...], expected: str) -> None:
    done = gradflow("bench", *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr


def test_an_output_that_is_a_file_is_found_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = gradflow(*_SMALL, "--output", tmp_path / "file")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write to {tmp_path / 'file'}: ")
    assert done.stdout == ""
