"""`hist inspect`: whole pages over a store whose every step is scripted; the pages lie in tests/pages."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from darkroom_learners import darkroom_store
from store_samples import ACTIONS, OBSERVATIONS, create, life, record

import historystore as hs
from historystore.tasks import family

PAGES = Path(__file__).parent / "pages"


def hist(*args: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    plain = {"PATH": "/usr/bin:/bin", "COLUMNS": "80", "LANG": "C.UTF-8", **environment}
    return subprocess.run(command, cwd=cwd, env=plain, capture_output=True, text=True, check=False)


def lasting(page: str) -> str:
    """Take out of a page what differs from run to run, or from library to library: times and sizes; and line ends."""
    page = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", page)
    page = re.sub(r"[\d.]+ kB", "SIZE", page)
    page = re.sub(r"[\d.]+ bytes a step", "BYTES a step", page)
    return "\n".join(line.rstrip() for line in page.split("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    darkroom_store(folder / "darkroom-ppo")
    return folder


@pytest.fixture(scope="module")
def two_streams(folder: Path) -> str:
    store = hs.open(folder / "darkroom-ppo")
    return next(learner.id for learner in store.learners if learner.spec.num_streams == 2)


VIEWS = {
    "list": (),
    "store": ("darkroom-ppo",),
    "task": ("darkroom-ppo", "--task", "goal=[6,3]"),
    "learner": ("darkroom-ppo", "--learner", "ID"),
    "episode": ("darkroom-ppo", "--learner", "ID", "--episode", "-1", "--stream", "1"),
    "help": ("--help",),
}


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_is_the_page_that_it_was(folder: Path, two_streams: str, view: str) -> None:
    args = [two_streams[:8] if arg == "ID" else arg for arg in VIEWS[view]]
    answer = hist("inspect", *args, cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert lasting(answer.stdout) == (PAGES / f"inspect-{view}.txt").read_text()
    assert max(map(len, answer.stdout.split("\n"))) <= 80


def test_each_view_ends_with_the_command_of_the_next(folder: Path) -> None:
    args = ["inspect"]
    for expected in ("inspect darkroom-ppo", "--task", "--learner", "--episode -1", "--episode 0"):
        page = hist(*args, cwd=folder).stdout
        command = page[page.rindex("\nnext\n") :].split("\n")[2]
        assert expected in command
        args = [part.strip("'") for part in command.split()[1:]]
    assert hist(*args, cwd=folder).returncode == 0


@pytest.mark.parametrize("task", [{}, {"goal-x": 1, "the name": "a 'b' c"}, {"goal": [1, 2], "wind": 0.5}])
def test_the_command_for_a_task_works_whatever_its_keys_are(tmp_path: Path, task: dict[str, object]) -> None:
    lived = life(num_streams=1)
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, replace(lived, spec=lived.spec.model_copy(update={"task": task})))
    page = hist("inspect", "s", cwd=tmp_path).stdout
    command = next(line for line in page.split("\n") if " --task " in line)
    answer = hist(*shlex.split(command)[1:], "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["task"] == task
    refusal = hist("inspect", "s", "--task", "goal=7", cwd=tmp_path).stderr
    hinted = shlex.split(refusal.partition("One that it has: ")[2].strip().removesuffix("."))
    assert hist("inspect", "s", *hinted, cwd=tmp_path).returncode == 0


@pytest.fixture(scope="module")
def top(folder: Path) -> dict[str, object]:
    answer = hist("inspect", "darkroom-ppo", "--json", cwd=folder)
    document: dict[str, object] = json.loads(answer.stdout)
    return document


def test_the_top_view_as_json_has_the_agreed_keys(folder: Path, top: dict[str, object]) -> None:
    store = hs.open(folder / "darkroom-ppo")
    expected = {
        "format_version": "1.0",
        "digest": store.digest,
        "learners": {"complete": 3, "partial": 1, "failed": 1},
        "num_histories": 6,
        "num_episodes": 114,
        "num_steps": 2280,
        "num_bytes": store.num_bytes,
    }
    assert {name: top[name] for name in expected} == expected


def test_the_curve_is_that_of_the_learners_own_steps(folder: Path, top: dict[str, object]) -> None:
    returns = []
    for learner in hs.open(folder / "darkroom-ppo").learners:
        rewards = [
            history.read(fields=["reward"])["reward"].reshape(-1, 20).sum(axis=1) for history in learner.histories
        ]
        returns.append(np.pad(np.mean(rewards, axis=0), (0, 24 - len(rewards[0])), constant_values=np.nan))
    curve = top["curve"]
    assert isinstance(curve, dict)
    for name, quantile in (("lower_quartile", 0.25), ("median", 0.5), ("upper_quartile", 0.75)):
        assert np.allclose(curve[name], np.nanquantile(returns, quantile, axis=0))
    assert curve["num_members"] == [5] * 9 + [3] * 15


@pytest.mark.parametrize("view", ["list", "task", "learner", "episode"])
def test_every_other_view_has_json_alone_on_stdout(folder: Path, two_streams: str, view: str) -> None:
    args = [two_streams[:8] if arg == "ID" else arg for arg in VIEWS[view]]
    answer = hist("inspect", *args, "--json", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    keys = {"list": "stores", "task": "learners", "learner": "updates", "episode": "steps"}
    assert len(json.loads(answer.stdout)[keys[view]]) > 0


def test_a_task_can_be_given_by_its_index_in_the_family_or_as_json(folder: Path) -> None:
    rooms = family("darkroom").tasks()
    by_index, by_json = (
        hist("inspect", "darkroom-ppo", "--task", task, cwd=folder).stdout
        for task in (str(rooms.index({"goal": [6, 3]})), '{"goal": [6, 3]}')
    )
    assert by_index == by_json == hist("inspect", "darkroom-ppo", "--task", "goal=[6, 3]", cwd=folder).stdout


def test_one_shard_can_be_inspected_alone(folder: Path) -> None:
    (shard,) = (folder / "darkroom-ppo" / "shards").iterdir()
    answer = hist("inspect", str(shard), "--json", cwd=folder)
    assert json.loads(answer.stdout)["num_steps"] == 2280


def test_the_learning_curve_can_be_drawn(folder: Path, tmp_path: Path) -> None:
    answer = hist("inspect", "darkroom-ppo", "--plot", str(tmp_path / "curve.png"), cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_ending_of_a_plot_says_its_format(folder: Path, tmp_path: Path) -> None:
    answer = hist("inspect", "darkroom-ppo", "--plot", str(tmp_path / "curve.pdf"), cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
    refused = hist("inspect", "darkroom-ppo", "--plot", str(tmp_path / "curve.doc"), cwd=folder)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: --plot: no picture ends in .doc, expected one of ")


def test_a_damaged_store_is_listed_with_its_problem_beside_the_others(folder: Path, tmp_path: Path) -> None:
    darkroom_store(tmp_path / "b-whole")
    (tmp_path / "a-broken").mkdir()
    (tmp_path / "a-broken" / "store.json").write_text("{")
    hs.create(tmp_path / "c-odd", family="grid", observation_space=OBSERVATIONS, action_space=ACTIONS)
    (tmp_path / "c-odd" / "shards").rmdir()
    (tmp_path / "c-odd" / "shards").touch()
    answer = hist("inspect", cwd=tmp_path)
    assert answer.returncode == 0
    assert "a-broken  cannot be opened" in answer.stdout
    assert "a-broken/store.json: is not valid JSON" in answer.stdout
    assert "c-odd/shards: cannot be read, not a directory" in answer.stdout
    assert "hist inspect b-whole" in answer.stdout


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    answer = hist("inspect", cwd=tmp_path)
    assert answer.returncode == 0
    assert answer.stdout == (
        "No stores in this folder.\n\nnext\n  hist record --algo ppo --env darkroom --seeds 0-99\n"
    )


def test_an_empty_store_is_shown_as_what_it_is(tmp_path: Path) -> None:
    shape = hs.open(darkroom_store(tmp_path / "full"))
    spaces = {"observation_space": shape.observation_space, "action_space": shape.action_space}
    hs.create(tmp_path / "empty", family="darkroom", **spaces)
    answer = hist("inspect", "empty", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "No episode has ended yet." in answer.stdout


MISTAKES = {
    ("nowhere",): (
        1,
        "Error: nowhere: there is no store here. Check the path; hist inspect lists the stores of a folder.\n",
    ),
    (".", "--learner", "a"): (
        1,
        "Error: .: is no store, it has no store.json. Give a store's folder; hist inspect lists those of a folder.\n",
    ),
    ("n" * 300,): (1, f"Error: {'n' * 300}: file name too long. Check the path and who may use it.\n"),
    ("darkroom-ppo/shards",): (
        1,
        "Error: darkroom-ppo/shards: is no store, it has no store.json. "
        "Give a store's folder; hist inspect lists those of a folder.\n",
    ),
    ("darkroom-ppo", "--learner", "zz"): (
        1,
        "Error: darkroom-ppo: no learner with an id beginning 'zz'. Give a whole id.\n",
    ),
    ("darkroom-ppo", "--task", "goal=[9,9]"): (
        1,
        "Error: darkroom-ppo: no learner has the task goal=[9,9]. One that it has: --task 'goal=[3,5]'.\n",
    ),
    ("darkroom-ppo", "--task", "81"): (1, "Error: darkroom-ppo: no task 81, expected 0 to 80. Choose one of those.\n"),
    ("darkroom-ppo", "--task", "[6,3]"): (
        1,
        "Error: --task: '[6,3]' is no task, expected its parameters, like 'goal=[3,4]', or its index. "
        "hist inspect STORE names one.\n",
    ),
    ("darkroom-ppo", "--learner", "ID", "--episode", "24"): (
        1,
        "Error: learner ID, stream 0: no episode 24, expected 0 to 23, or -1 for the last. Choose one of those.\n",
    ),
    ("darkroom-ppo", "--learner", "ID", "--episode", "0", "--stream", "2"): (
        1,
        "Error: learner ID: no stream 2, expected 0 to 1. Choose one of those.\n",
    ),
    ("darkroom-ppo", "--episode", "0"): (
        2,
        "Error: --episode needs --learner. Try 'python -m hist_cli inspect --help'.\n",
    ),
    ("--task", "1"): (2, "Error: Name the store: hist inspect STORE ... Try 'python -m hist_cli inspect --help'.\n"),
}


@pytest.mark.parametrize("args", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line(folder: Path, two_streams: str, args: tuple[str, ...]) -> None:
    code, line = MISTAKES[args]
    answer = hist("inspect", *(two_streams[:12] if arg == "ID" else arg for arg in args), cwd=folder)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert answer.stderr == line.replace("ID", two_streams[:12])


def test_the_top_view_reads_no_step(folder: Path, tmp_path: Path) -> None:
    """So its time is that of the index: cut off the shard, and the view is the same."""
    store = darkroom_store(tmp_path / "darkroom-ppo")
    before = hist("inspect", "darkroom-ppo", cwd=tmp_path).stdout
    for shard in (store / "shards").iterdir():
        shard.write_bytes(bytes(shard.stat().st_size))
    assert hist("inspect", "darkroom-ppo", cwd=tmp_path).stdout == before


def test_a_return_that_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    lived = life(num_streams=1, reward_dtype="f8")
    lived.steps["reward"][0, 0] = np.nan
    with hs.StoreWriter(create(tmp_path / "odd")) as writer:
        record(writer, lived)
    (learner,) = hs.open(tmp_path / "odd").learners
    for args in ((), ("--learner", learner.id), ("--task", "goal=[0,4]")):
        assert json.loads(hist("inspect", "odd", *args, "--json", cwd=tmp_path).stdout)["curve"]
        assert hist("inspect", "odd", *args, cwd=tmp_path).returncode == 0
    answer = hist("inspect", "odd", "--learner", learner.id, "--episode", "0", "--json", cwd=tmp_path)
    assert json.loads(answer.stdout)["return"] is None
    assert json.loads(answer.stdout)["steps"][0]["values"]["reward"] is None
