"""The processors that this process may keep busy, from its affinity mask and from the files of Linux's cgroups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradflow.backends.cpu.processors import processors, why_fewer

V2 = "30 23 0:26 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime shared:3 master:1 - cgroup cgroup rw,cpuset\n"
)
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
GROUPS_V1 = "9:name=systemd:/\n4:cpuset:/other\n1:cpu,cpuacct:/jobs/7\n"
CPU = "sys/fs/cgroup/cpu,cpuacct/"


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """A machine with eight processors; its affinity mask can be changed."""
    allowed = set(range(8))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed, raising=False)
    return allowed


def machine(folder: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """Make a folder with the files of a machine: the groups of the process, the mounted file systems, and others."""
    for name, content in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("expected", "groups", "mounts", "files"),
    [
        pytest.param(8, "0::/\n", V2, {}, id="version 2, no quota in the root group"),
        pytest.param(8, "0::/jobs\n", V2, {"sys/fs/cgroup/jobs/cpu.max": "max 100000\n"}, id="version 2, max"),
        pytest.param(3, "0::/jobs\n", V2, {"sys/fs/cgroup/jobs/cpu.max": "300000 100000\n"}, id="version 2"),
        pytest.param(2, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "299999 100000\n"}, id="rounded down"),
        pytest.param(1, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "5000 100000\n"}, id="at least one"),
        pytest.param(8, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "1600000 100000\n"}, id="more than the machine has"),
        pytest.param(
            2,
            "0::/a/b/c\n",
            V2,
            {
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "60000 10000",
                "sys/fs/cgroup/a/b/c/cpu.max": "max 100000",
                "sys/fs/cgroup/z/cpu.max": "100000 100000",
            },
            id="nested: the tightest of its own groups",
        ),
        pytest.param(
            4, "0::/docker/1f\n", V2, {"sys/fs/cgroup/cpu.max": "400000 100000"}, id="container: not mounted here"
        ),
        pytest.param(
            4,
            "0::/docker/1f/inner\n",
            V2.replace(" / /sys", " /docker/1f /sys"),
            {"sys/fs/cgroup/cpu.max": "500000 100000", "sys/fs/cgroup/inner/cpu.max": "400000 100000"},
            id="container: its own folder is mounted",
        ),
        pytest.param(
            5,
            "0::/a\n",
            V2.replace(" / /sys", " /docker/1f /sys"),
            {"sys/fs/cgroup/cpu.max": "500000 100000", "sys/fs/cgroup/a/cpu.max": "100000 100000"},
            id="another group's folder is mounted",
        ),
        pytest.param(
            2,
            GROUPS_V1,
            V1,
            {CPU + "jobs/7/cpu.cfs_quota_us": "250000\n", CPU + "jobs/7/cpu.cfs_period_us": "100000\n"},
            id="version 1",
        ),
        pytest.param(
            8,
            GROUPS_V1,
            V1,
            {CPU + "jobs/7/cpu.cfs_quota_us": "-1\n", CPU + "jobs/7/cpu.cfs_period_us": "100000\n"},
            id="version 1, no quota",
        ),
        pytest.param(
            6,
            GROUPS_V1,
            V1,
            {
                CPU + "jobs/cpu.cfs_quota_us": "300000",
                CPU + "jobs/cpu.cfs_period_us": "50000",
                CPU + "jobs/7/cpu.cfs_quota_us": "-1",
                CPU + "jobs/7/cpu.cfs_period_us": "100000",
                CPU + "other/cpu.cfs_quota_us": "100000",
                CPU + "other/cpu.cfs_period_us": "100000",
            },
            id="version 1, nested",
        ),
        pytest.param(8, GROUPS_V1, V1, {CPU + "cpu.cfs_quota_us": "100000"}, id="version 1, without a period"),
        pytest.param(
            3,
            GROUPS_V1 + "0::/new\n",
            HYBRID,
            {
                CPU + "cpu.cfs_quota_us": "400000",
                CPU + "cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/unified/new/cpu.max": "300000 100000",
            },
            id="hybrid: the tighter version",
        ),
        pytest.param(7, "", V2, {"sys/fs/cgroup/cpu.max": "700000 100000"}, id="groups unknown"),
        pytest.param(8, "0::/\n", "", {"sys/fs/cgroup/cpu.max": "100000 100000"}, id="mounts unknown"),
        *(
            pytest.param(8, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": odd}, id=f"odd: {odd[:20]!r}")
            for odd in (
                "",
                "1",
                "1 2 3",
                "100000 0",
                "0 100000",
                "-1 100000",
                "-100000 -100000",
                "x 1",
                "1" * 5000 + " 1",
            )
        ),
    ],
)
def test_quota_is_the_tightest_of_its_groups(
    expected: int, groups: str, mounts: str, files: dict[str, str], tmp_path: Path
) -> None:
    root = machine(tmp_path, groups, mounts, files)
    assert processors(root) == expected
    assert why_fewer(root) == (None if expected == 8 else "CPU quota of its cgroup")


def test_affinity_limits_too_and_is_asked_each_time(eight_processors: set[int], tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "400000 100000"})
    assert processors(root) == 4
    eight_processors -= {0, 1, 2, 3, 4}
    assert (processors(root), why_fewer(root)) == (3, "affinity")
    eight_processors |= {0, 1}
    assert (processors(root), why_fewer(root)) == (4, "CPU quota of its cgroup")


def test_a_system_without_affinity_and_groups_has_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert (processors(tmp_path), why_fewer(tmp_path)) == (8, None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert (processors(tmp_path), why_fewer(tmp_path)) == (1, None)


def test_unreadable_files_set_no_quota(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/a\n", V2, {"sys/fs/cgroup/cpu.max/is/a/folder": "", "sys/fs/cgroup/a/x": ""})
    (root / "sys/fs/cgroup/a/cpu.max").write_bytes(b"\xff\x00 \xfe")
    assert processors(root) == 8


LINES = st.lists(
    st.sampled_from([*V2.split(), *V1.split(), "0::/", "1:cpu:/a\0", "..", "\n"])
    | st.text(st.characters(codec="utf-8"))
).map(" ".join)


@given(groups=LINES, mounts=LINES, quota=LINES)
def test_any_text_is_survived(groups: str, mounts: str, quota: str) -> None:
    with TemporaryDirectory() as folder:
        root = machine(Path(folder), groups, V2 + mounts, {})
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/cpu.max").write_text(quota, "utf-8")
        assert 1 <= processors(root) <= 8
