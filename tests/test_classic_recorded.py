"""Noise distillation and experts from trained models of another store, which need no optimal policy."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from classic_learners import recorded

import historystore
from historystore.errors import InvalidValue, SpaceMismatch, StoreNotFound
from historystore.recording import plan_recording, record
from historystore.recording.plan import spec_of_seed
from historystore.returns import learner_final_returns
from historystore.sb3 import load_checkpoint
from historystore.tasks import family

TRAINED = {
    "CartPole-v1": {"algo": "dqn", "steps": 600},
    "Pendulum-v1": {"algo": "ppo", "steps": 256, "set": {"n_steps": 128}},
    "dark-key-to-door": {"algo": "a2c", "steps": 200, "streams": 2},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two learners of each world, with their models."""
    folder = tmp_path_factory.mktemp("trained")
    for env, options in TRAINED.items():
        record(env=env, seeds="0-1", out=folder / env, workers=1, checkpoints="final", **options)
    return folder


def _specs(trained, algo, env, seeds, *, steps, **settings):
    given = {"policy_from": str(trained / env), **settings}
    plan = plan_recording(algo, env, seeds, set=given, steps=steps, out=trained / "none")
    return [spec_of_seed(plan.template, seed, policies=plan.policies) for seed in plan.todo]


@pytest.mark.parametrize(
    ("env", "seeds"), [("CartPole-v1", "0-3"), ("Pendulum-v1", "0-3"), ("dark-key-to-door", "0-1")]
)
def test_without_noise_a_learner_does_what_the_model_does_on_what_it_saw(env, seeds, trained, tmp_path):
    specs = _specs(trained, "expert", env, seeds, steps=230)
    recorded(tmp_path / "store", specs, group_size=4, policies=str(trained / env))
    store = historystore.open(tmp_path / "store")
    for spec in specs:
        model = load_checkpoint(historystore.open(trained / env), spec.hyperparameters["policy_from"])
        steps = store.learner(spec.id).histories[0].read(0, 230)
        seen = steps.get("source_observation", steps["observation"])
        actions = np.stack([model.predict(obs, deterministic=True)[0] for obs in seen])
        assert np.allclose(steps["action"], actions)
        assert spec.policy == "Recorded"


@pytest.mark.parametrize(
    ("env", "seeds"), [("CartPole-v1", "0-4"), ("Pendulum-v1", "0-4"), ("dark-key-to-door", "0-1")]
)
def test_followers_of_models_are_the_same_bit_for_bit_whoever_they_learn_with(env, seeds, trained, tmp_path):
    specs, digests = _specs(trained, "noise", env, seeds, steps=150, update_interval=10), set()
    for group_size in (1, 2, 5):
        path = tmp_path / str(group_size)
        ended = recorded(path, specs, group_size=group_size, policies=str(trained / env))
        assert {end.status for end in ended} == {"complete"}
        digests.add(historystore.open(path).digest)
    assert len(digests) == 1


def test_recurrent_models_forget_at_the_end_of_an_episode_and_only_there(tmp_path):
    short = {"env_args": {"max_episode_steps": 7}}
    lstm = {"n_steps": 32, "policy_kwargs": {"lstm_hidden_size": 8}}
    out = tmp_path / "lstm"
    record("recurrent-ppo", "Pendulum-v1", "0", out=out, steps=64, set=lstm, checkpoints="final", **short)
    record("expert", "Pendulum-v1", "0", out=tmp_path / "store", steps=30, set={"policy_from": str(out)}, **short)
    source, [learner] = historystore.open(out), historystore.open(tmp_path / "store").learners
    model, state = load_checkpoint(source, source.learners[0].row.checkpoint), None
    steps = learner.histories[0].read(0, 30)
    for step, obs in enumerate(steps["observation"]):
        starts = np.array([step % 7 == 0])
        action, state = model.predict(obs[None], state=state, episode_start=starts, deterministic=True)
        assert np.array_equal(action[0], steps["action"][step])


def test_chance_draws_evenly_from_a_box_and_gives_no_probability(trained, tmp_path):
    specs = _specs(trained, "expert", "Pendulum-v1", "0-4", steps=400, epsilon=1.0)
    recorded(tmp_path / "store", specs, group_size=5, policies=str(trained / "Pendulum-v1"))
    learners = historystore.open(tmp_path / "store").learners
    steps = [learner.histories[0].read(0, 400) for learner in learners]
    actions = np.concatenate([step["action"] for step in steps]).ravel()
    counts, _ = np.histogram(actions, bins=4, range=(-2.0, 2.0))
    assert counts.sum() == 2000
    assert (abs(counts - 500) < 100).all()
    assert "log_prob" not in steps[0]


def test_a_recording_names_the_best_model_of_each_task_and_not_its_path(trained, tmp_path):
    source = historystore.open(trained / "CartPole-v1")
    best = source.learners[int(np.argmax(learner_final_returns(source)))].row.checkpoint
    moved = tmp_path / "moved"
    moved.symlink_to(trained / "CartPole-v1")
    settings = {"steps": 120, "out": tmp_path / "store", "workers": 1}
    first = record("noise", "CartPole-v1", "0-2", set={"policy_from": str(trained / "CartPole-v1")}, **settings)
    again = record("noise", "CartPole-v1", "0-2", set={"policy_from": str(moved)}, **settings)
    assert (first.learners.complete, again.num_skipped, again.digest) == (3, 3, first.digest)
    learners = historystore.open(tmp_path / "store").learners
    assert {learner.spec.hyperparameters["policy_from"] for learner in learners} == {best}
    assert all("torch" in learner.row.provenance.versions for learner in learners)


def test_without_a_store_the_identity_of_a_learner_is_what_it_was():
    plan = plan_recording("noise", "darkroom", "0", out="nowhere/at/all")
    assert "policy_from" not in spec_of_seed(plan.template, 0).hyperparameters
    assert plan.template.policy == "Optimal"


@pytest.mark.parametrize(
    ("env", "args", "of", "kind", "line"),
    [
        ("CartPole-v1", {}, "nothing", StoreNotFound, "{}: there is no store here."),
        ("CartPole-v1", {}, "Pendulum-v1", SpaceMismatch, "--set policy_from: {} is a store of the family 'Pendulum"),
        (
            "dark-key-to-door",
            {"ends_at_door": True},
            "dark-key-to-door",
            InvalidValue,
            "--set policy_from: {} has no trained model for 2 of 2 tasks (",
        ),
    ],
)
def test_a_store_without_the_models_gets_one_line_before_anything_starts(env, args, of, kind, line, trained, tmp_path):
    options = {"env_args": args, "steps": 100, "set": {"policy_from": str(trained / of)}}
    with pytest.raises(kind) as refusal:
        record("noise", env, "0-1", out=tmp_path / "store", **options)
    assert str(refusal.value).startswith(line.format(trained / of))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "store").exists()


def test_a_single_shard_is_no_store_of_models(trained, tmp_path):
    shard = next((trained / "CartPole-v1" / "shards").iterdir())
    with pytest.raises(InvalidValue) as refusal:
        plan_recording("noise", "CartPole-v1", "0", steps=100, set={"policy_from": str(shard)}, out=tmp_path / "store")
    assert str(refusal.value) == (
        f"--set policy_from: {shard} is a single shard, which holds no models, expected a store. Give the store's "
        "folder."
    )


def test_one_task_without_a_model_is_named(trained, tmp_path):
    settings = {"policy_from": str(trained / "dark-key-to-door")}
    with pytest.raises(InvalidValue, match=r"no trained model for 1 of 3 tasks \(") as refusal:
        plan_recording("noise", "dark-key-to-door", "0-2", set=settings, out=tmp_path / "store")
    task = family("dark-key-to-door").task_of_seed(2)
    assert all(f"{name}=" in str(refusal.value) for name in task)


def test_a_model_that_is_gone_gets_one_line(trained, tmp_path):
    lost = tmp_path / "lost"
    record("dqn", "CartPole-v1", "0", out=lost, steps=200, checkpoints="final", workers=1)
    [checkpoint] = (lost / "checkpoints").iterdir()
    checkpoint.rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidValue, match=r"no such checkpoint") as refusal:
        record("noise", "CartPole-v1", "0", steps=100, set={"policy_from": str(lost)}, out=tmp_path / "store")
    assert "\n" not in str(refusal.value)


def test_spaces_that_chance_cannot_draw_from_evenly_get_one_line():
    from historystore.classic.mixture import epsilon_mixture
    from historystore.classic.schedule import Schedule

    with pytest.raises(InvalidValue, match=r"noise: expected Discrete actions or a bounded Box of floats, got Box"):
        epsilon_mixture([], space=gym.spaces.Box(-np.inf, np.inf, (2,)), schedule=Schedule.constant(0.1, num_steps=1))
