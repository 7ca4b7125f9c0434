"""A learner that is shown more than its observation: what it saw and what was true are both recorded, each as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

import historystore
from historystore.documents import LearnerSpec
from historystore.recording.engine import build_model
from historystore.recording.source_vec_env import SourceVecEnv
from historystore.sb3 import HistoryRecorder
from historystore.tasks import family
from historystore.verify import verify

torch.set_num_threads(1)
TASK = {"key": [1, 1], "door": [1, 2]}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "A2C": {"n_steps": 10},
    "DQN": {"buffer_size": 400, "learning_starts": 10, "batch_size": 8, "exploration_final_eps": 1.0},
}
SOURCES = ("key", "stack-3")
NUM_STREAMS, NUM_STEPS, SEED = 2, 240, 7


class Seen(BaseCallback):
    """Keep what the learner saw before each step, and what it was told of the ends of episodes."""

    def __init__(self) -> None:
        super().__init__()
        self.observations: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []

    def _on_step(self) -> bool:
        self.observations.append(np.array(self.model._last_obs))
        self.ends += [info["terminal_observation"] for info in self.locals["infos"] if "terminal_observation" in info]
        return True


def spec_of(algorithm: str, source: str) -> LearnerSpec:
    return LearnerSpec(
        family="dark-key-to-door",
        env_args={"size": 3, "max_episode_steps": 12, "source": source, "ends_at_door": True},
        task=TASK,
        algorithm=algorithm,
        policy="MlpPolicy",
        hyperparameters=ALGORITHMS[algorithm],
        num_streams=NUM_STREAMS,
        num_steps=NUM_STEPS,
        seed=SEED,
    )


def recorded(path: Path, spec: LearnerSpec, **options: Any) -> tuple[historystore.Store, Seen, Any]:
    model, seen = build_model(spec), Seen()
    model.learn(spec.num_steps, callback=[seen, HistoryRecorder(path, spec=spec, **options)])
    return historystore.open(path), seen, model


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_true_observations_and_those_of_the_source_are_recorded_side_by_side(
    tmp_path: Path, algorithm: str, source: str
) -> None:
    spec = spec_of(algorithm, source)
    store, seen, model = recorded(tmp_path / "s", spec)
    assert store.observation_space == family(spec.family, spec.env_args).observation_space
    columns = [history.read() for history in store.learners[0].histories]
    twin = family(spec.family, spec.env_args).make_batched([TASK] * NUM_STREAMS)
    assert model.observation_space == twin.source_observation_space != store.observation_space
    obs, finals = twin.reset(seeds=[SEED, SEED + 1]), []
    for step in range(NUM_STEPS // NUM_STREAMS):
        for stream, column in enumerate(columns):
            np.testing.assert_array_equal(column["observation"][step], obs[stream])
            np.testing.assert_array_equal(column["source_observation"][step], twin.source_observation()[stream])
            np.testing.assert_array_equal(seen.observations[step][stream], twin.source_observation()[stream])
        obs, reward, *flags = twin.step(np.array([column["action"][step] for column in columns]))
        assert reward.tolist() == [column["reward"][step] for column in columns]
        assert np.array(flags).T.tolist() == [
            [column[name][step] for name in ("terminated", "truncated")] for column in columns
        ]
        for stream in np.flatnonzero(flags[0] | flags[1]).tolist():
            final = store.learners[0].histories[stream].final_observation(step)["observation"]
            np.testing.assert_array_equal(final, obs[stream])
            finals.append(twin.source_observation()[stream])
            if algorithm == "DQN":
                np.testing.assert_array_equal(model.replay_buffer.next_observations[step, stream], finals[-1])
        obs = twin.reset(flags[0] | flags[1])
    np.testing.assert_array_equal(seen.ends, finals)
    assert any(column["terminated"].any() for column in columns)
    assert any(column["truncated"].any() for column in columns)
    assert not [problem for problem in verify(tmp_path / "s") if not problem.is_note]


def test_an_ending_of_an_episode_is_valued_by_what_the_source_sees_there() -> None:
    envs = family("dark-key-to-door", {"size": 3, "max_episode_steps": 2, "source": "key"}).make_batched([TASK])
    vec = build_model(spec_of("A2C", "key")).get_env()
    assert isinstance(vec, SourceVecEnv)
    vec = SourceVecEnv(type(vec.venv)(envs))
    vec.seed(0)
    vec.reset()
    for action in (4, 4):
        obs, _, dones, infos = vec.step(np.array([action]))
    assert dones.all()
    assert sorted(infos[0]) == ["TimeLimit.truncated", "terminal_observation"]
    assert vec.observation_space.contains(infos[0]["terminal_observation"])
    assert vec.observation_space.contains(obs[0])


@pytest.mark.parametrize(
    ("fields", "has_it"), [(None, True), (("value",), False), (("source_observation",), True), ((), False)]
)
def test_what_the_source_saw_is_recorded_unless_other_fields_are_asked_for(
    tmp_path: Path, fields: tuple[str, ...] | None, has_it: bool
) -> None:
    store, *_ = recorded(tmp_path / "s", spec_of("A2C", "key"), fields=fields)
    assert ("source_observation" in store.learners[0].histories[0].fields) is has_it


def test_without_a_view_of_its_own_a_learner_sees_the_observation_and_no_second_one_is_recorded(
    tmp_path: Path,
) -> None:
    store, seen, model = recorded(tmp_path / "s", spec_of("A2C", "plain"))
    assert model.observation_space == store.observation_space
    history = store.learners[0].histories[0]
    assert "source_observation" not in history.fields
    np.testing.assert_array_equal(history.read()["observation"], [shown[0] for shown in seen.observations])


def test_recording_changes_no_weight_of_a_learner_with_a_view(tmp_path: Path) -> None:
    spec = spec_of("A2C", "key")
    _, _, watched = recorded(tmp_path / "s", spec)
    alone = build_model(spec)
    alone.learn(spec.num_steps)
    for one, other in zip(watched.policy.parameters(), alone.policy.parameters(), strict=True):
        assert torch.equal(one, other)
