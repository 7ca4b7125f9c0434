"""The commands that make stores of stores, and the one that compares them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eventful_stores import many_seals, shards_of
from store_samples import create, life, record, small_store

import historystore as hs

PAGES = Path(__file__).parent / "pages"


def hist(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("whole") / "store", num_learners=10).path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path


@pytest.mark.parametrize("name", ["filter", "split", "merge", "compact", "diff"])
def test_the_help_page_teaches_with_examples(tmp_path: Path, name: str) -> None:
    assert hist(name, "--help", cwd=tmp_path).stdout == (PAGES / f"{name}-help.txt").read_text()


def test_the_columns_are_listed_without_a_store(tmp_path: Path) -> None:
    answer = hist("filter", "--columns", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (0, (PAGES / "filter-columns.txt").read_text())


def test_filter_says_what_it_made(folder: Path) -> None:
    answer = hist("filter", "store", "out", "--where", "seed < 3 and algo == 'PPO'", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    digest = hs.open(folder / "out").digest[:12]
    assert answer.stdout == f"out: 3 learners, 540 steps in 1 shard, digest {digest}\nnext: hist inspect out\n"


def test_a_misspelt_column_is_one_line(folder: Path) -> None:
    answer = hist("filter", "store", "out", "--where", "sed < 3", cwd=folder)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("Error: where: no column is called 'sed', expected one of algo, algorithm, best,")
    assert answer.stderr.endswith("at character 1 of 'sed < 3'. Check the name.\n")
    assert not (folder / "out").exists()


def test_another_store_in_the_place_is_one_line(folder: Path) -> None:
    answer = hist("merge", "store", "store", cwd=folder)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == (
        "Error: store: holds another store, expected nothing or what an interrupted run of this command left. "
        "Choose another place.\n"
    )


def test_split_makes_a_folder_of_stores_that_merge_into_the_same_store(folder: Path) -> None:
    answer = hist("split", "store", "parts", "--by", "task", "--ratio", "0.8", "--json", cwd=folder)
    assert answer.returncode == 0
    train, test = json.loads(answer.stdout)
    assert [train["path"], test["path"]] == ["parts/train", "parts/test"]
    assert train["num_learners"] + test["num_learners"] == 10
    merged = hist("merge", "parts/train", "parts/test", "again", "--json", cwd=folder)
    assert json.loads(merged.stdout)[0]["digest"] == hs.open(folder / "store").digest
    assert hist("diff", "store", "again", cwd=folder).returncode == 0


def test_three_shares_make_three_parts_and_other_numbers_of_them_a_usage_error(folder: Path) -> None:
    answer = hist("split", "store", "parts", "--ratio", "0.6,0.2,0.2", cwd=folder)
    assert [line.split(":")[0] for line in answer.stdout.splitlines()] == [
        *("parts/train", "parts/validation", "parts/test", "next"),
    ]
    for ratio in ("2", "0.5,0.5", "most"):
        answer = hist("split", "store", "other", "--ratio", ratio, cwd=folder)
        assert answer.returncode == 2
        assert f"--ratio is a share from 0 to 1, or three of them, got {ratio!r}." in answer.stderr


def test_compact_keeps_the_digest(tmp_path: Path) -> None:
    digest = many_seals(tmp_path / "store").digest
    answer = hist("compact", "store", "--json", cwd=tmp_path)
    assert answer.returncode == 0
    (facts,) = json.loads(answer.stdout)
    assert (facts["digest"], facts["num_shards"], len(shards_of(tmp_path / "store"))) == (digest, 1, 1)
    assert hist("verify", "store", cwd=tmp_path).returncode == 0


def test_diff_of_equal_stores_is_one_line_and_exit_code_0(folder: Path) -> None:
    shutil.copytree(folder / "store", folder / "copy")
    answer = hist("diff", "store", "copy", cwd=folder)
    assert (answer.returncode, answer.stdout) == (0, "store and copy: the same.\n")


def test_diff_of_others_says_where_and_exits_with_1(folder: Path) -> None:
    lived = life(seed=3)
    lived.steps["reward"][7, 2] += 1
    with hs.StoreWriter(create(folder / "other")) as writer:
        record(writer, lived)
    hist("filter", "store", "three", "--where", "seed == 3", cwd=folder)
    answer = hist("diff", "three", "other", "--data-only", cwd=folder)
    assert (answer.returncode, answer.stderr) == (1, "")
    learner = lived.spec.id[:12]
    assert answer.stdout == (
        f"learner {learner}, steps/reward: differs in stream 2 from step 7 on.\nthree and other: 1 difference.\n"
    )
    document = json.loads(hist("diff", "three", "other", "--data-only", "--json", cwd=folder).stdout)
    assert (document["is_same"], document["differences"][0]["part"]) == (False, "steps/reward")
