"""Whatever stops a recording, what was sealed stays, and the same command records the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import historystore

SETTINGS = ["--steps", "200", "--streams", "2", "--set", "n_steps=50", "--set", "batch_size=50", "--set", "n_epochs=1"]
NUM_LEARNERS = 150


def _command(out: Path, *options: str, seeds: str = f"0-{NUM_LEARNERS - 1}") -> list[str]:
    recording = ["record", "--algo", "ppo", "--env", "darkroom", "--seeds", seeds, "--out", str(out)]
    return [sys.executable, "-m", "hist_cli", *recording, *SETTINGS, "--workers", "2", *options]


def _started(out: Path, *options: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(_command(out, "--json", "--seal-s", "0.2", *options), start_new_session=True, **pipes)


def _wait_until_recording(process: subprocess.Popen[str]) -> None:
    """Return when the workers have ended a learner."""
    for line in process.stdout:
        if json.loads(line).get("num_done"):
            return
    raise AssertionError(process.stderr.read())


def _family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _num_complete(path: Path) -> int:
    return list(historystore.open(path).status_of().values()).count("complete")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "store"
    answer = subprocess.run(_command(out, "--json", "--quiet"), capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def test_killed_terminated_and_interrupted_a_recording_ends_as_if_undisturbed(undisturbed, tmp_path):
    out = tmp_path / "store"
    num_complete = 0
    for sent in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = _started(out)
        _wait_until_recording(process)
        family = _family_of(process)
        os.kill(process.pid, sent)
        _, errors = process.communicate(timeout=10)
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert _num_complete(out) >= num_complete
        num_complete = _num_complete(out)
        assert list(out.rglob("*.tmp")) == []
        if sent == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 128 + sent
            assert errors == (
                f"Interrupted: {num_complete} of {NUM_LEARNERS} learners are complete in {out}. "
                "The same command records the rest.\n"
            )
    assert 0 < num_complete < NUM_LEARNERS
    answer = subprocess.run(_command(out, "--json"), capture_output=True, text=True, check=True)
    plan, *_, report = map(json.loads, answer.stdout.splitlines())
    assert plan["num_skipped"] == num_complete
    assert report["learners"] == {"complete": NUM_LEARNERS, "partial": 0, "failed": 0}
    assert report["digest"] == undisturbed["digest"]


def test_a_killed_parents_workers_seal_a_long_learner_within_seconds(tmp_path):
    out = tmp_path / "store"
    process = _started(out, "--steps", "100000000", "--seal-s", "1000")
    for line in process.stdout:
        if json.loads(line).get("num_steps", 0):
            break
    family = _family_of(process)
    process.kill()
    process.communicate()
    started = time.monotonic()
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert time.monotonic() - started < 5
    store = historystore.open(out)
    assert set(store.status_of().values()) == {"partial"}
    assert store.num_steps > 0


@contextmanager
def _mounted(folder: Path, *options: str):
    """Mount a small memory disk, where that is allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a memory disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on(undisturbed, tmp_path):
    disk = tmp_path / "disk"
    with _mounted(disk, "-o", "size=400k"):
        out = disk / "store"
        each_sealed_alone = ["--seal-s", "0.001"]  # twice what the disk holds, on a machine of any speed
        answer = subprocess.run(_command(out, *each_sealed_alone, "-q"), capture_output=True, text=True, check=False)
        assert answer.returncode == 1
        assert answer.stderr.startswith(f"Error: {out}/shards/")
        assert answer.stderr.endswith("no space left on device. Free some space and run the same command again.\n")
        assert answer.stderr.count("\n") == 1
        assert list(out.rglob("*.tmp")) == []
        num_complete = _num_complete(out)
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        answer = subprocess.run(_command(out, "--json"), capture_output=True, text=True, check=True)
        plan, *_, report = map(json.loads, answer.stdout.splitlines())
        assert plan["num_skipped"] == num_complete > 0
        assert report["digest"] == undisturbed["digest"]


@contextmanager
def _read_only(folder: Path):
    """Make a folder that this process cannot write to; root can write to any but a read-only disk."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    bind = ["mount", "--bind", str(folder), str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_directory_is_refused_in_one_line_before_any_work(tmp_path):
    out = tmp_path / "there" / "store"
    out.parent.mkdir()
    with _read_only(out.parent):
        started = time.perf_counter()
        answer = subprocess.run(_command(out), capture_output=True, text=True, check=False)
        assert time.perf_counter() - started < 2.5, "refused before the engine loads"
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"Error: {out}/shards: cannot be written, ")
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


def test_a_store_on_a_read_only_disk_is_refused_in_one_line_unless_it_is_complete(tmp_path):
    out = tmp_path / "store"
    subprocess.run(_command(out, "-q", seeds="0"), capture_output=True, check=True)
    with _read_only(out):
        answer = subprocess.run(_command(out, "-q", seeds="0-1"), capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.startswith(f"Error: {out}/shards: cannot be written, ")
        assert answer.stderr.count("\n") == 1
        subprocess.run(_command(out, "-q", seeds="0"), capture_output=True, check=True)
