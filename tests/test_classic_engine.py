"""What the classic engine records is what its learners lived, whoever they learned with."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from classic_learners import learner_specs, recorded

import historystore
from historystore.classic.engine import ClassicEngine
from historystore.errors import InvalidValue
from historystore.recording import record
from historystore.recording.engines import Interrupted
from historystore.tasks import family

KEYS = {"env": "dark-key-to-door", "env_args": {"source": "key"}}
LEARNERS = [
    {"algorithm": "UCB", "env": "bandit", "update_interval": 30},
    {"algorithm": "ThompsonSampling", "env": "bandit"},
    {"algorithm": "QLearning", "env": "darkroom", "initial_value": 1.0},
    {"algorithm": "QLearning", **KEYS},
    {"algorithm": "NoiseDistillation", "env": "darkroom-hard", "schedule": "cosine"},
    {"algorithm": "NoiseDistillation", **KEYS, "env_args": {"source": "key", "ends_at_door": True}},
    {"algorithm": "Expert", "env": "bandit", "epsilon": 0.1},
]


def _name(settings):
    return "-".join(map(str, settings.values())) if isinstance(settings, dict) else None


@pytest.mark.parametrize("settings", LEARNERS, ids=_name)
def test_learners_are_the_same_bit_for_bit_whoever_they_learn_with(settings, tmp_path):
    specs = learner_specs(**settings, num_learners=10, num_steps=330)
    digests = set()
    for group_size in (1, 3, 10):
        path = tmp_path / str(group_size)
        ended = recorded(path, specs, group_size=group_size)
        assert [(end.seed, end.status, end.num_steps) for end in ended] == [(s, "complete", 330) for s in range(10)]
        digests.add(historystore.open(path).digest)
    assert len(digests) == 1


@pytest.mark.parametrize("settings", LEARNERS, ids=_name)
def test_gymnasiums_own_environments_live_what_was_recorded(settings, tmp_path):
    specs = learner_specs(**settings, num_learners=3, num_steps=330)
    recorded(tmp_path / "store", specs, group_size=3)
    store = historystore.open(tmp_path / "store")
    for spec in specs:
        learner = store.learner(spec.id)
        history = learner.histories[0].read(0, 330)
        env = family(spec.family, spec.env_args).make(spec.task)
        obs, _ = env.reset(seed=spec.seed)
        for step in range(330):
            assert np.array_equal(obs, history["observation"][step])
            obs, *outcome, _ = env.step(history["action"][step])
            assert outcome == [history[name][step] for name in ("reward", "terminated", "truncated")]
            if outcome[1] or outcome[2]:
                obs, _ = env.reset()
        assert learner.row.provenance.engine == "classic"
        assert learner.row.provenance.best_return > learner.row.provenance.random_return


def test_what_the_source_alone_saw_is_recorded_beside_the_observation(tmp_path):
    specs = learner_specs("QLearning", **KEYS, num_learners=2, num_steps=400)
    recorded(tmp_path / "store", specs, group_size=2)
    history = historystore.open(tmp_path / "store").learner(specs[0].id).histories[0].read(0, 400)
    assert np.array_equal(history["source_observation"][:, :2], history["observation"])
    has_key = history["source_observation"][:, 2]
    follows = ~(history["terminated"] | history["truncated"])[:-1]
    is_picked_up = (history["reward"][:-1] > 0) & (has_key[:-1] == 0)
    assert is_picked_up.any()
    assert np.array_equal((has_key[:-1] | is_picked_up)[follows], has_key[1:][follows])


@pytest.mark.parametrize(
    ("settings", "num_likely"),
    [
        ({"algorithm": "QLearning", "env": "darkroom", "epsilon_final": 0.5}, 5),
        ({"algorithm": "NoiseDistillation", "env": "bandit", "epsilon_final": 0.4}, 10),
    ],
    ids=_name,
)
def test_log_probabilities_are_those_that_the_actions_were_drawn_with(settings, num_likely, tmp_path):
    """Where every action is possible, the mean of `1 / P(action)` is the number of actions."""
    specs = learner_specs(**settings, num_learners=50, num_steps=200)
    recorded(tmp_path / "store", specs, group_size=50)
    histories = [history for learner in historystore.open(tmp_path / "store").learners for history in learner.histories]
    log_probs = np.concatenate([history.read(0, 200)["log_prob"] for history in histories])
    assert log_probs.dtype == np.float32
    assert np.exp(-log_probs.astype(np.float64)).mean() == pytest.approx(num_likely, rel=0.05)


def test_the_updates_say_when_epsilon_falls(tmp_path):
    specs = learner_specs(
        "NoiseDistillation", "darkroom", num_learners=1, num_steps=400, update_interval=100, anneal_share=0.5
    )
    recorded(tmp_path / "store", specs, group_size=1)
    updates = historystore.open(tmp_path / "store").learner(specs[0].id).updates().to_pydict()
    assert updates["step"] == [100, 200, 300, 400]
    assert updates["rollout/exploration_rate"] == [0.5, 0.0, 0.0, 0.0]


def test_fields_that_are_not_asked_for_are_left_out(tmp_path):
    specs = learner_specs("QLearning", **KEYS, num_learners=1, num_steps=100)
    recorded(tmp_path / "store", specs, group_size=1, fields=("value",))
    history = historystore.open(tmp_path / "store").learner(specs[0].id).histories[0]
    assert set(history.read(0, 100)) == {"observation", "action", "reward", "terminated", "truncated"}


def test_an_interruption_closes_all_learners_of_the_group_as_partial_with_their_steps(tmp_path):
    def interrupt(num_steps: int) -> None:
        if num_steps >= 3 * 150:
            raise Interrupted

    specs = learner_specs("QLearning", "darkroom", num_learners=3, num_steps=400)
    ended = recorded(tmp_path / "store", specs, group_size=3, watch=interrupt)
    assert [(end.status, end.num_steps) for end in ended] == [("partial", 150)] * 3
    store = historystore.open(tmp_path / "store")
    assert Counter(store.status_of().values()) == {"partial": 3}
    assert store.num_steps == 450


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"algorithm": "UCB", "env": "bandit", "coefficient": -1.0},
            "--set coefficient: expected greater than or equal to 0, got -1.0. Change the value.",
        ),
        (
            {"algorithm": "NoiseDistillation", "env": "darkroom", "schedule": "steep"},
            "--set schedule: expected linear or cosine, got 'steep'. Change the value.",
        ),
        (
            {"algorithm": "Expert", "env": "darkroom", "epsilon_start": 1.0},
            "--set epsilon_start: Extra inputs are not permitted, got 1.0. Change the value.",
        ),
        (
            {"algorithm": "QLearning", "env": "dark-key-to-door", "env_args": {"source": "stack-4"}},
            "QLearning: at most 100,000 states fit a table, got 43,046,721. Use --algo dqn.",
        ),
    ],
    ids=_name,
)
def test_settings_that_cannot_be_carried_out_get_one_line(settings, line):
    with pytest.raises(InvalidValue) as refusal:
        ClassicEngine().check(learner_specs(**settings, num_learners=1, num_steps=100)[0], fields=None)
    assert str(refusal.value) == line


def test_several_streams_are_refused_in_one_line():
    spec = learner_specs("QLearning", "darkroom", num_learners=1, num_steps=100)[0]
    with pytest.raises(InvalidValue) as refusal:
        ClassicEngine().check(spec.model_copy(update={"num_streams": 2}), fields=None)
    assert str(refusal.value) == "--streams: QLearning has one, got 2. Record more seeds instead."


def test_a_worker_of_this_engine_loads_neither_torch_nor_stable_baselines3():
    code = (
        "import sys, historystore.recording.worker, historystore.classic.engine\n"
        "print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_learner_that_must_find_acts_at_random_alone_until_its_first_reward(tmp_path):
    settings = {"must_find": True, "epsilon_start": 0.2, "epsilon_final": 0.2}
    record("noise", "darkroom-hard", "0-19", steps=4_000, set=settings, out=tmp_path / "store")
    num_found = 0
    for learner in historystore.open(tmp_path / "store").learners:
        trace = learner.histories[0].read(0, 4_000)
        rewarded = np.flatnonzero(trace["reward"])
        found = int(rewarded[0]) + 1 if len(rewarded) else 4_000
        np.testing.assert_allclose(trace["log_prob"][:found], -np.log(5), rtol=1e-6)
        assert not np.isclose(trace["log_prob"][found:], -np.log(5)).any()
        num_found += found < 4_000
    assert 5 <= num_found <= 19
