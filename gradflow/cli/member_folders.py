"""The folder of a run of several networks: the model, and a run folder for each member."""

from __future__ import annotations

from pathlib import Path

from gradflow.training.runs.run_folder import run_files


def member_folder(folder: Path, place: int) -> Path:
    """Return the run folder of a member."""
    return folder / f"member-{place:03}"


def member_folders(folder: Path) -> list[Path]:
    """Return the run folders of the members; none if the run is that of a single network."""
    return [path for path in sorted(folder.glob("member-[0-9]*")) if path.is_dir() and run_files(path)]


def remove_members(folder: Path, *, but: int = 0) -> None:
    """Remove the runs of members, except the first ones; files of other programs stay."""
    kept = [member_folder(folder, place) for place in range(but)]
    for path in member_folders(folder):
        if path not in kept:
            for file in [*run_files(path), path / "weight-path.safetensors"]:
                file.unlink(missing_ok=True)
