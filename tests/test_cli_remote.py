"""The commands of `hist` on a store at a URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from darkroom_learners import darkroom_store
from s3_server import S3Server, objects

import historystore as hs

RECORD = ("record", "--algo", "ppo", "--env", "darkroom", "--seeds", "0-3", "--steps", "2000", "--workers", "2")


def hist(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def shards(url: str) -> list[str]:
    system, root = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    return [name for name in system.find(f"{root}/shards") if name.endswith(".h5")]


def test_a_store_on_s3_is_listed_looked_into_and_verified(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    darkroom_store(f"{bucket}/lab/rooms")
    listed = json.loads(hist("inspect", f"{bucket}/lab", "--json", cwd=tmp_path).stdout)
    assert [(line["path"], line["num_steps"]) for line in listed["stores"]] == [(f"{bucket}/lab/rooms", 2280)]
    page = hist("inspect", f"{bucket}/lab/rooms", cwd=tmp_path)
    assert (page.returncode, page.stderr) == (0, "")
    assert f"hist verify {bucket}/lab/rooms" in page.stdout
    learner = hs.open(f"{bucket}/lab/rooms").learners[0].id
    episode = hist("inspect", f"{bucket}/lab/rooms", "--learner", learner[:8], "--episode", "-1", cwd=tmp_path)
    assert episode.returncode == 0, episode.stderr
    whole = hist("verify", f"{bucket}/lab/rooms", cwd=tmp_path)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout == f"{bucket}/lab/rooms: whole. Every file holds what was written to it.\n"


def test_what_reads_a_store_takes_a_url_and_what_works_in_place_says_that_it_does_not(
    s3: S3Server, tmp_path: Path
) -> None:
    url = f"{s3.new_bucket()}/rooms"
    digest = hs.open(darkroom_store(url)).digest
    converted = hist("convert", url, "local", "--format", "arrow", cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    assert hs.open(tmp_path / "local").digest == digest
    same = hist("diff", url, "local", "--data-only", cwd=tmp_path)
    assert same.returncode == 0, same.stdout + same.stderr
    compacted = hist("compact", url, cwd=tmp_path)
    assert (compacted.returncode, compacted.stdout) == (1, "")
    assert compacted.stderr == (
        f"Error: {url}: is remote, expected a folder of this machine. Copy the store into one first.\n"
    )


def test_a_server_that_does_not_answer_is_one_line(s3: S3Server, tmp_path: Path) -> None:
    url = f"{s3.new_bucket()}/store"
    s3.stop()
    try:
        for command in ("inspect", "verify"):
            answer = hist(command, url, cwd=tmp_path)
            assert (answer.returncode, answer.stdout) == (1, "")
            assert answer.stderr.startswith(f"Error: {url}: cannot be read, could not connect to the endpoint URL")
            assert answer.stderr.count("\n") == 1
    finally:
        s3.start()


@pytest.mark.slow
def test_learners_recorded_onto_s3_are_those_recorded_into_a_folder(s3: S3Server, tmp_path: Path) -> None:
    url = f"{s3.new_bucket()}/store"
    done = hist(*RECORD, "--out", url, "--checkpoints", "final", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"next      hist inspect {url}" in done.stdout
    assert hist(*RECORD, "--out", "local", cwd=tmp_path).returncode == 0
    assert hs.open(url).digest == hs.open(tmp_path / "local").digest
    names = {name.partition("/")[0] for name in objects(url)}
    assert names == {"store.json", "index.arrow", "README.md", "shards", "checkpoints"}
    assert hist("verify", url, cwd=tmp_path).returncode == 0
    again = hist(*RECORD, "--out", url, cwd=tmp_path)
    assert "nothing, all is complete" in again.stdout
    settings = ("updates=3", "context_length=40", "width=16", "layers=1", "heads=1", "batch_size=8", "min_progress=0")
    train = hist("train", url, "--out", "run", *(f"--set={text}" for text in settings), cwd=tmp_path)
    assert train.returncode == 0, train.stderr


@pytest.mark.slow
def test_a_recording_outlives_its_server_and_the_same_command_uploads_the_rest(
    s3: S3Server, tmp_path: Path, remote_folders: Path
) -> None:
    url = f"{s3.new_bucket()}/store"
    command = (*RECORD, "--out", url, "--seal-s", "0.5")
    with subprocess.Popen(
        [sys.executable, "-m", "hist_cli", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not shards(url):
            time.sleep(0.05)
        assert process.poll() is None
        s3.stop()
        try:
            _, errors = process.communicate(timeout=300)
        finally:
            s3.start()
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    assert last.startswith(f"Error: {url}: ")
    assert f"Nothing is lost, they wait in {remote_folders / 'spool'}{os.sep}" in last
    assert "Traceback" not in errors
    waiting = {path.name for path in remote_folders.glob("spool/*/shards/*.h5")}
    assert waiting
    done = hist(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert waiting <= {Path(name).name for name in shards(url)}
    assert not list(remote_folders.glob("spool/*/shards/*.h5"))
    assert hist(*RECORD, "--out", "local", cwd=tmp_path).returncode == 0
    assert hs.open(url).digest == hs.open(tmp_path / "local").digest
    assert hist("verify", url, cwd=tmp_path).returncode == 0
