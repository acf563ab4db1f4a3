"""Files: their permissions, the treatment of links, and who holds a lock."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradflow as gf
from gradflow import files
from gradflow.files import FileLock, read_json, write_atomically, write_json, write_together, writing_atomically

if os.name != "posix":
    pytest.skip("permissions, links and forks are POSIX's", allow_module_level=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_have_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "ours", b"")
    assert mode(tmp_path / "ours") == mode(tmp_path / "usual")


def test_writing_never_changes_the_umask_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may create a file at any moment."""

    def refused(mask: int) -> int:
        raise AssertionError("the umask was changed")

    monkeypatch.setattr(os, "umask", refused)
    write_atomically(tmp_path / "file", b"")


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o444, 0o666])
def test_a_file_keeps_its_permissions(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "private"
    path.touch()
    path.chmod(permissions)
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", permissions)


def test_a_saved_model_goes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    target, link = tmp_path / "models" / "5", tmp_path / "latest"
    link.symlink_to("models/5")
    network = gf.MLP([3, 2], backend="numpy")
    for _ in range(2):  # the target of the link is created, and then replaced
        gf.save(network, link)
        assert link.is_symlink()
        assert gf.load(target, backend="numpy").n_in == 3
        assert [path.name for path in (tmp_path / "models").iterdir()] == ["5"]
        target.chmod(0o600)
    assert mode(target) == 0o600


def test_a_name_of_maximum_length(tmp_path: Path) -> None:
    for name in ("n" * 255, "é" * 127):
        write_atomically(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"


def test_only_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="a device, pipe or socket cannot be replaced by a file"):
            gf.save(gf.MLP([3, 2], backend="numpy"), tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_written_piece_by_piece_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(path)
    path.write_bytes(b"before")
    path.chmod(0o640)
    with writing_atomically(link, overwrite=True) as file:
        file.write(b"af")
        assert path.read_bytes() == b"before"
        file.write(b"ter")
    assert (path.read_bytes(), mode(path), link.is_symlink()) == (b"after", 0o640, True)
    with pytest.raises(ZeroDivisionError), writing_atomically(path, overwrite=True) as file:
        file.writelines(bytes(size // size) for size in (1, 0))
    with pytest.raises(FileExistsError, match="file"), writing_atomically(path, overwrite=False) as file:
        file.write(b"other")
    with pytest.raises(FileNotFoundError) as raised, writing_atomically(tmp_path / "no" / "file", overwrite=False):
        pass
    assert raised.value.filename == str(tmp_path / "no" / "file")
    with pytest.raises(OSError, match="input"), writing_atomically(path, overwrite=True):
        raise OSError(5, "cannot be read", "input")
    assert path.read_bytes() == b"after"
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "link"}


def test_json_is_not_read_from_a_pipe(tmp_path: Path) -> None:
    """Reading it would wait forever."""
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(gf.FileFormatError, match=r"config\.json is not a regular file"):
        read_json(tmp_path / "config.json")
    write_json(tmp_path / "whole.json", {"a": 1})
    assert read_json(tmp_path / "whole.json") == {"a": 1}


# -- locks ------------------------------------------------------------------------------------------------------------


def link_to(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def hard_link_to(path: Path, precious: Path) -> None:
    path.hardlink_to(precious)


def pipe(path: Path, precious: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, precious: Path) -> None:
    path.mkdir()


def file_of_another_program(path: Path, precious: Path) -> None:
    path.write_text("resolved = 1.2.3")


def long_file(path: Path, precious: Path) -> None:
    path.write_text("1" * 100)


@pytest.mark.parametrize("make", [link_to, hard_link_to, pipe, folder, file_of_another_program, long_file])
def test_files_that_are_no_locks_are_left_alone(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    precious, lock = tmp_path / "precious", tmp_path / "run" / ".lock"
    precious.write_text("1234")  # also text that looks like a process id
    lock.parent.mkdir()
    make(lock, precious)
    before = lock.read_bytes() if lock.is_file() else b""
    trainer = gf.Trainer(gf.MLP([1, 2], backend="numpy"), "softmax_cross_entropy", "adam")
    with pytest.raises(OSError, match=r"a run cannot be saved here: .*\. Nothing was changed; choose another output"):
        trainer.fit([[0.0]], [1], epochs=1, output=lock.parent)
    assert precious.read_text() == "1234"
    assert (lock.read_bytes() if lock.is_file() else b"") == before


RESULTS = ("model.safetensors", "config.json", "history.csv", "curves.png", "command.json")


def test_links_in_a_run_folder_lead_nowhere(tmp_path: Path) -> None:
    """Someone who may write to a run folder must not be able to write to other files with the rights of the user
    training there."""
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.write_text("mine")
    (run / "checkpoints").mkdir(parents=True)
    unfinished = "checkpoints/.step-000000000000.safetensors.0123456789abcdef"
    for name in (*RESULTS, unfinished, "checkpoints/step-000000000000.safetensors"):
        (run / name).symlink_to(precious)
    trainer = gf.Trainer(gf.MLP([1, 2], backend="numpy"), "softmax_cross_entropy", "adam")
    trainer.fit([[0.0]], [1], epochs=1, output=run, checkpoint=gf.Checkpoint(), overwrite=True)
    write_json(run / "command.json", {})
    assert precious.read_text() == "mine"
    assert not any(
        path.is_symlink() for path in run.rglob("*") if path.name != "curves.png"
    )  # matplotlib may be missing


def test_files_written_together_are_all_there_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last, old = (tmp_path / name for name in ("first", "last", "old"))
    for path in (first, last, old):
        path.write_text("before")
    contents = {first: b"after", last: b"after"}
    seen: list[tuple[bool, ...]] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        seen.append((target == last, last.exists(), old.exists()))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_together(contents, removed=[old])
    assert {path.read_text() for path in tmp_path.iterdir()} == {"before"}
    monkeypatch.setattr(os, "replace", watched)
    write_together(contents, removed=[old])
    # The marker for complete results is removed first, and the replaced files are removed before it is written.
    assert seen == [(False, False, True), (True, False, False)]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"first": "after", "last": "after"}


def in_child(action: Callable[[], Any]) -> int:
    """Fork a process that does something and then waits until it is killed; return its id."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os.write(done, b"!")
            signal.pause()
            os._exit(0)
    os.read(ready, 1)
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_lock_is_released_while_a_child_lives(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / ".lock")
    assert lock.acquire() is None
    child = in_child(lambda: None)
    try:
        lock.release()
        again = FileLock(tmp_path / ".lock")
        assert again.acquire() is None
        again.release()
    finally:
        end(child)


def test_a_child_does_not_release_its_parents_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / ".lock")
    assert lock.acquire() is None
    child = in_child(lock.release)
    try:
        assert FileLock(tmp_path / ".lock").acquire() == os.getpid()
        assert lock.is_in_place
    finally:
        end(child)
    lock.release()


HOLDER = """
import os, sys, time
from pathlib import Path
from gradflow.files import FileLock

lock = FileLock(Path(sys.argv[1]))
assert lock.acquire() is None
ready, done = os.pipe()
if os.fork():
    os.read(ready, 1)
    os.kill(os.getpid(), 9)
print(os.getpid(), flush=True)
os.write(done, b"!")
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_does_not_live_on_in_its_child(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / ".lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert process.wait() == -signal.SIGKILL
        lock = FileLock(tmp_path / ".lock")
        assert lock.acquire() is None
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_locks_of_threads_exclude_each_other(tmp_path: Path) -> None:
    lock, found = FileLock(tmp_path / ".lock"), list[int | None]()
    assert lock.acquire() is None
    thread = threading.Thread(target=lambda: found.append(FileLock(tmp_path / ".lock").acquire()))
    thread.start()
    thread.join()
    lock.release()
    assert found == [os.getpid()]
    assert not files._held
