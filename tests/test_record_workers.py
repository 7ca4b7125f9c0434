"""Recording with several processes: the same histories whatever happens to the workers."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

import historystore
from historystore.errors import InvalidValue
from historystore.recording import Progress, RecordReport, plan_recording, record, run
from historystore.verify import verify

TINY = {"steps": 400, "streams": 2, "set": {"n_steps": 50, "batch_size": 50, "n_epochs": 1}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Six tiny learners recorded by one worker, from a script without a main guard: the store and its report."""
    folder = tmp_path_factory.mktemp("undisturbed")
    script = folder / "script.py"
    script.write_text(
        "from historystore.recording import record\n"
        f"report = record('ppo', 'darkroom', '0-5', out={str(folder / 'store')!r}, workers=1, **{TINY!r})\n"
        "print(report.model_dump_json())"
    )
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return folder / "store", RecordReport.model_validate_json(answer.stdout)


def test_a_recording_holds_every_learner_whole(undisturbed):
    path, report = undisturbed
    store = historystore.open(path)
    assert report.failures == ()
    assert (report.num_added, report.num_retried, report.num_skipped) == (6, 0, 0)
    assert (report.learners.complete, report.learners.partial, report.learners.failed) == (6, 0, 0)
    assert (report.num_steps, report.num_steps_recorded) == (2400, 2400)
    assert report.digest == store.digest
    assert sorted(learner.spec.seed for learner in store.learners) == list(range(6))
    assert {history.num_steps for learner in store.learners for history in learner.histories} == {200}
    assert all(learner.row.provenance.best_return > learner.row.provenance.random_return for learner in store.learners)


def test_workers_parts_and_seals_change_no_digest(undisturbed, tmp_path):
    _, alone = undisturbed
    out = tmp_path / "store"
    first = record("ppo", "darkroom", "4,1", out=out, workers=2, seal_s=0.01, **TINY)
    report = record("ppo", "darkroom", "0-5", out=out, workers=3, **TINY)
    assert (first.num_added, report.num_skipped, report.num_added) == (2, 2, 4)
    assert report.digest == alone.digest


def test_a_complete_recording_is_skipped_without_starting_anything(undisturbed):
    path, alone = undisturbed
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    started = time.perf_counter()
    report = record("ppo", "darkroom", "5,0-3", out=path, **TINY)
    assert time.perf_counter() - started < 1.0
    assert (report.num_skipped, report.num_added, report.digest) == (5, 0, alone.digest)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_card_that_a_kill_left_out_is_written_by_the_same_command(undisturbed):
    path, _ = undisturbed
    card = path / "README.md"
    before = card.read_bytes()
    card.unlink()
    record("ppo", "darkroom", "0-5", out=path, **TINY)
    assert card.read_bytes() == before


def test_another_setting_is_another_learner_in_the_same_store(undisturbed):
    path, _ = undisturbed
    settings = {**TINY, "set": {**TINY["set"], "gamma": 0.5}}
    plan = plan_recording("ppo", "darkroom", "0-5", out=path, **settings)
    assert (plan.num_skipped, plan.num_added) == (0, 6)


def test_learners_that_raise_are_recorded_as_failed_and_the_others_go_on(tmp_path):
    settings = {**TINY, "set": {**TINY["set"], "learning_rate": 1e30}}
    report = record("ppo", "darkroom", "0-2", out=tmp_path / "store", workers=1, **settings)
    assert [failure.seed for failure in report.failures] == [0, 1, 2]
    assert all(failure.error.startswith("ValueError: ") for failure in report.failures)
    assert report.learners.failed == 3
    store = historystore.open(tmp_path / "store")
    assert {learner.row.error for learner in store.learners} == {failure.error for failure in report.failures}
    again = plan_recording("ppo", "darkroom", "0-3", out=tmp_path / "store", **settings)
    assert (again.num_retried, again.num_added, again.num_skipped) == (3, 1, 0)


def test_settings_that_the_engine_refuses_get_one_line_before_any_learner_begins(tmp_path):
    settings = {**TINY, "set": {"policy_kwargs": {"net_arc": [8]}}}
    with pytest.raises(
        InvalidValue, match=r"^learner: PPO with MlpPolicy refuses these settings, TypeError: .*net_arc"
    ):
        record("ppo", "darkroom", "0-2", out=tmp_path / "store", **settings)
    assert list(tmp_path.iterdir()) == []


def test_refused_settings_leave_a_folder_that_was_there_and_a_store_alone(tmp_path):
    refused = {**TINY, "set": {"n_steps": 0}}
    (tmp_path / "empty").mkdir()
    record("ppo", "darkroom", "0", out=tmp_path / "store", workers=1, **TINY)
    digest = historystore.open(tmp_path / "store").digest
    for name in ("empty", "store"):
        with pytest.raises(InvalidValue, match=r"^learner: PPO with MlpPolicy refuses these settings"):
            record("ppo", "darkroom", "0", out=tmp_path / name, **refused)
        assert (tmp_path / name).is_dir()
    assert historystore.open(tmp_path / "store").digest == digest


@pytest.mark.parametrize(
    ("algo", "engine", "message"),
    [
        (
            "ppo",
            None,
            "fields: info/x is missing at step 1, expected it in the info of every step, got TimeLimit.truncated. "
            "Leave it out, or add it to the environment's info.",
        ),
        (
            "ppo",
            "lockstep",
            "--fields: --engine lockstep records log_prob, value, raw_action, source_observation, got info/x. Take "
            "--engine sb3, which can.",
        ),
        ("ucb", None, "--fields: UCB records log_prob and source_observation, got info/x. Leave it out."),
    ],
)
def test_a_field_that_no_step_has_is_refused_once_and_leaves_nothing(tmp_path, algo, engine, message):
    env = "bandit" if algo == "ucb" else "darkroom"
    with pytest.raises(InvalidValue) as refusal:
        record(algo, env, "0-2", engine=engine, fields=["info/x"], out=tmp_path / "store", steps=200)
    assert str(refusal.value) == message
    assert list(tmp_path.iterdir()) == []


def _workers() -> list[psutil.Process]:
    """Return the worker processes: the children of our launcher."""
    return [worker for launcher in psutil.Process().children() for worker in launcher.children()]


def test_a_killed_worker_costs_nothing_but_time(undisturbed, tmp_path):
    _, alone = undisturbed
    plan = plan_recording("ppo", "darkroom", "0-5", out=tmp_path / "store", workers=2, **TINY)
    killed = []
    for state in run(plan):
        if not killed and isinstance(state, Progress) and (workers := _workers()):
            workers[0].kill()
            killed.append(workers[0].pid)
    assert killed
    assert isinstance(state, RecordReport)
    assert (state.failures, state.digest) == ((), alone.digest)


def test_a_learner_whose_workers_always_die_is_given_up_and_the_others_go_on(tmp_path):
    long = {**TINY, "steps": 10_000_000}
    plan = plan_recording("ppo", "darkroom", "0", out=tmp_path / "store", workers=1, **long)
    num_killed = 0
    for state in run(plan):
        if isinstance(state, Progress) and state.num_steps and (workers := _workers()):
            workers[0].kill()
            num_killed += 1
    assert num_killed == 2
    assert [failure.seed for failure in state.failures] == [0]
    assert state.failures[0].error.startswith("not recorded: 2 worker processes died at it.")
    assert state.learners.failed == 1
    (learner,) = historystore.open(tmp_path / "store").learners
    assert (learner.status, learner.row.error) == ("failed", state.failures[0].error)
    again = plan_recording("ppo", "darkroom", "0", out=tmp_path / "store", workers=1, **long)
    assert (again.num_retried, again.num_added) == (1, 0)


def test_a_learner_that_is_given_up_keeps_the_steps_that_its_workers_sealed(tmp_path):
    long = {**TINY, "steps": 10_000_000, "seal_s": 0.1}
    plan = plan_recording("ppo", "darkroom", "0", out=tmp_path / "store", workers=1, **long)
    for state in run(plan):
        if isinstance(state, Progress) and state.num_bytes and (workers := _workers()):
            workers[0].kill()
    assert [failure.seed for failure in state.failures] == [0]
    (learner,) = historystore.open(tmp_path / "store").learners
    assert learner.status == "partial"
    assert sum(history.num_steps for history in learner.histories) > 0
    assert not [problem for problem in verify(tmp_path / "store") if not problem.is_note]


def test_a_caller_that_stops_iterating_leaves_partial_learners_and_no_process(tmp_path):
    long = {**TINY, "steps": 10_000_000}
    plan = plan_recording("ppo", "darkroom", "0-1", out=tmp_path / "store", workers=2, **long)
    others = psutil.Process().children()
    states = run(plan)
    while not next(states).num_steps:
        pass
    states.close()
    assert psutil.Process().children() == others
    store = historystore.open(tmp_path / "store")
    assert "partial" in set(store.status_of().values())
    assert store.num_steps > 0
    assert list((tmp_path / "store").rglob("*.tmp")) == []
