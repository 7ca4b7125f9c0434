import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from historystore.recording.vec_env import BatchedVecEnv
from historystore.tasks import families, family


def both(name: str, num_envs: int) -> tuple[BatchedVecEnv, DummyVecEnv]:
    fam = family(name)
    tasks = [fam.task_of_seed(seed) for seed in range(num_envs)]
    return BatchedVecEnv(fam.make_batched(tasks)), DummyVecEnv([lambda t=task: fam.make(t) for task in tasks])


@pytest.mark.parametrize("name", families())
@pytest.mark.parametrize("num_envs", [1, 7])
def test_every_step_is_what_dummy_vec_env_gives(name: str, num_envs: int) -> None:
    ours, theirs = both(name, num_envs)
    rng = np.random.default_rng(0)
    assert ours.seed(3) == theirs.seed(3)
    assert np.array_equal(ours.reset(), theirs.reset())
    for _ in range(110):
        actions = rng.integers(ours.action_space.n, size=num_envs)
        (obs, rewards, dones, infos), expected = ours.step(actions), theirs.step(actions)
        for got, want in zip((obs, rewards, dones), expected, strict=False):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
        assert [sorted(info) for info in infos] == [sorted(info) for info in expected[3]]
        for info, want in zip(infos, expected[3], strict=True):
            assert info["TimeLimit.truncated"] is bool(want["TimeLimit.truncated"])
            np.testing.assert_array_equal(info.get("terminal_observation"), want.get("terminal_observation"))
    assert ours.reset_infos == theirs.reset_infos


def test_the_terminal_observation_is_the_true_one_and_the_returned_one_starts_the_next_episode() -> None:
    envs = BatchedVecEnv(family("darkroom").make_batched([{"goal": [0, 0]}] * 2))
    envs.reset()
    for _ in range(20):
        obs, _, dones, infos = envs.step(np.array([0, 2]))
    assert dones.all()
    assert obs.tolist() == [[4, 4], [4, 4]]
    assert [info["terminal_observation"].tolist() for info in infos] == [[8, 4], [4, 8]]
    assert all(info["TimeLimit.truncated"] is True for info in infos)


def test_attributes_answer_as_dummy_vec_envs_do() -> None:
    ours, theirs = both("darkroom", 3)
    assert [tuple(goal) for goal in ours.get_attr("goal")] == theirs.get_attr("goal")
    assert [tuple(goal) for goal in ours.get_attr("goal", [2, 0])] == theirs.get_attr("goal", [2, 0])
    assert [tuple(goal) for goal in ours.get_attr("goal", 1)] == theirs.get_attr("goal", 1)
    assert ours.get_attr("render_mode") == theirs.get_attr("render_mode")
    assert (ours.has_attr("nothing"), ours.has_attr("goal")) == (theirs.has_attr("nothing"), theirs.has_attr("goal"))
    assert ours.env_is_wrapped(Monitor, [0, 1]) == theirs.env_is_wrapped(Monitor, [0, 1]) == [False, False]
    assert (ours.num_envs, ours.observation_space, ours.action_space, ours.render_mode) == (
        theirs.num_envs,
        theirs.observation_space,
        theirs.action_space,
        theirs.render_mode,
    )
    for refused in (lambda: ours.set_attr("goal", 1), lambda: ours.env_method("reset")):
        with pytest.raises(AttributeError, match="batched environments"):
            refused()


def test_seeds_are_given_to_the_next_reset_once() -> None:
    ours, theirs = both("darkroom", 3)
    assert ours.seed(7) == theirs.seed(7) == [7, 8, 9]
    ours.reset()
    assert ours._seeds == [None, None, None]


@pytest.mark.parametrize("num_envs", [1, 4])
def test_a_learner_ends_with_the_same_weights_on_either(num_envs: int) -> None:
    weights = []
    for envs in both("darkroom", num_envs):
        model = PPO("MlpPolicy", envs, n_steps=64, batch_size=64, n_epochs=2, seed=3, device="cpu")
        model.learn(256)
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.policy.parameters()]))
    np.testing.assert_array_equal(weights[0], weights[1])


def test_stable_baselines_own_tools_accept_it() -> None:
    ours, _ = both("darkroom", 2)
    model = PPO("MlpPolicy", VecMonitor(ours), n_steps=40, batch_size=80, n_epochs=1, seed=0, device="cpu")
    model.learn(160)
    assert model.ep_info_buffer[0]["l"] == 20
    mean, _ = evaluate_policy(model, VecMonitor(both("darkroom", 2)[0]), n_eval_episodes=4)
    assert mean >= 0
