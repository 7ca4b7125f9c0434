"""Any Gymnasium id is a family of one task; MiniGrid's and Meta-World's are families of many."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from historystore.errors import InvalidValue, MissingExtra
from historystore.tasks import BatchedEnv, Family, families, family, find


def lockstep(name: str, *, num_steps: int, **args: object) -> None:
    """Hold the batched environments against single ones, actions drawn, until the end of several episodes."""
    known = family(name, args)
    tasks = [known.task_of_seed(seed) for seed in range(3)]
    singles, twin = [known.make(task) for task in tasks], known.make_batched(tasks)
    assert isinstance(known, Family)
    assert isinstance(twin, BatchedEnv)
    seeds = [7, 8, 9]
    expected = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    np.testing.assert_array_equal(twin.reset(seeds=seeds), expected)
    known.action_space.seed(0)
    num_ends = 0
    for _ in range(num_steps):
        actions = np.stack([known.action_space.sample() for _ in tasks])
        obs, *rest = twin.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        expected_obs, *expected_rest, _ = zip(*steps, strict=True)
        np.testing.assert_array_equal(obs, expected_obs)
        for got, wanted in zip(rest, expected_rest, strict=True):
            np.testing.assert_array_equal(got, np.array(wanted, dtype=got.dtype))
        is_done = rest[1] | rest[2]
        num_ends += int(is_done.sum())
        if is_done.any():
            expected = [
                env.reset()[0] if done else shown
                for env, done, shown in zip(singles, is_done, expected_obs, strict=True)
            ]
            np.testing.assert_array_equal(twin.reset(is_done), expected)
    assert num_ends > 3


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_environments_of_a_gymnasium_id_are_stepped_one_after_another_as_they_are(name: str) -> None:
    lockstep(name, num_steps=60, max_episode_steps=20)


def test_a_gymnasium_id_is_a_family_of_one_task_with_the_arguments_that_differ() -> None:
    plain, other = family("Pendulum-v1", {"max_episode_steps": 200}), family("Pendulum-v1", {"g": 2.5})
    assert (plain.args, other.args, other.arguments) == ({}, {"g": 2.5}, ("g",))
    assert (plain.tasks(), plain.num_tasks, plain.task_of_seed(5), plain.is_batched) == ([{}], 1, {}, False)
    assert (plain.best_return({}), plain.random_return({}), plain.max_episode_steps) == (None, None, 200)
    assert other.make({}).unwrapped.g == 2.5
    assert family("CartPole-v1", {"max_episode_steps": 50}).max_episode_steps == 50


def test_observations_of_several_parts_are_batched_part_by_part() -> None:
    class Parts(gym.Env):
        observation_space = gym.spaces.Dict(
            {"a": gym.spaces.Discrete(5), "b": gym.spaces.Box(0, 255, (4, 4), np.uint8)}
        )
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"a": np.int64(3), "b": np.full((4, 4), 7, np.uint8)}, {}

        def step(self, action):
            return {"a": np.int64(action), "b": np.zeros((4, 4), np.uint8)}, np.array([1.0]), False, True, {}

    if "Parts-v0" not in gym.registry:
        gym.register("Parts-v0", Parts)
    known = family("Parts-v0")
    assert known.max_episode_steps is None
    twin = known.make_batched([{}, {}])
    first = twin.reset()
    assert {key: (part.shape, part.dtype) for key, part in first.items()} == {
        "a": ((2,), np.int64),
        "b": ((2, 4, 4), np.uint8),
    }
    obs, reward, _, truncated = twin.step(np.array([0, 1]))
    assert (obs["a"].tolist(), reward.tolist(), truncated.tolist()) == ([0, 1], [1.0, 1.0], [True, True])
    assert first["a"].tolist() == [3, 3], "what was handed out never changes"


def test_the_state_of_such_environments_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidValue, match="cannot be saved"):
        family("CartPole-v1").make_batched([{}]).state()


LISTED = ", ".join(families())
ELSE = (
    f"expected one of {LISTED}, a Gymnasium id such as CartPole-v1, or a class of your own such as my_package:MyFamily."
)


@pytest.mark.parametrize(
    ("name", "args", "line"),
    [
        ("Acrobat-v1", {}, f"env: nothing is called 'Acrobat-v1', {ELSE} Did you mean Acrobot-v1?"),
        ("cartpole", {}, f"env: nothing is called 'cartpole', {ELSE} Did you mean CartPole-v1 or "),
        ("a b", {}, f"env: nothing is called 'a b', {ELSE} Check the name."),
        ("No/Such-v0", {}, f"env: nothing is called 'No/Such-v0', {ELSE} Check the name."),
        (
            "CartPole-v9",
            {},
            "env: Environment version `v9` for environment `CartPole` doesn't exist. It provides versioned "
            "environments: [ `v0`, `v1` ]. Change the version.",
        ),
        (
            "no_such_module:Env-v0",
            {},
            "env: module no_such_module cannot be imported, ModuleNotFoundError: No module named 'no_such_module'. "
            "It is looked for among the installed packages and in ",
        ),
        (
            "CartPole-v1",
            {"x": 1},
            "env: CartPole-v1 cannot be made with x=1, TypeError: CartPoleEnv.__init__() got an ",
        ),
    ],
)
def test_a_name_that_nothing_has_is_one_line_with_what_may_be_meant(name: str, args: dict, line: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        family(name, args)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif("Box2D" in sys.modules, reason="needs box2d not to be installed")
def test_a_missing_package_is_named_with_how_to_install_it() -> None:
    with pytest.raises(MissingExtra, match=r"env: LunarLander-v3 needs a package.*gymnasium\[box2d\]"):
        family("LunarLander-v3")
    with pytest.raises(MissingExtra, match=r"env: ALE/Pong-v5 needs .* Run pip install 'gymnasium\[atari\]'\."):
        family("ALE/Pong-v5")


def test_a_reader_imports_nothing_for_a_name_in_a_store(tmp_path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    names = ("evil:Family", "evil:Env-v0", "CartPole-v1")
    code = f"from historystore.tasks import find\nprint([find(name) for name in {names}])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "[None, None, None]\n")
    made = family("CartPole-v1", {"max_episode_steps": 77})
    assert find("CartPole-v1", {"max_episode_steps": 77}) is made, "this process has made it already"


def test_a_layout_of_minigrid_is_the_same_in_every_episode_and_another_in_another_task() -> None:
    pytest.importorskip("minigrid")
    name = "minigrid:MiniGrid-SimpleCrossingS9N2-v0"
    lockstep(name, num_steps=60, max_episode_steps=20)
    known = family(name, {"layouts": 50})
    assert (known.args, known.num_tasks, len(known.tasks())) == ({"layouts": 50}, 50, 50)
    assert sorted(known.task_of_seed(seed)["layout"] for seed in range(50, 100)) == list(range(50))
    env = known.make({"layout": 3})
    first, *others = (env.reset(seed=seed)[0] for seed in (None, 1, 2))
    assert all((first == other).all() for other in others)
    assert len({known.make(task).reset()[0].tobytes() for task in known.tasks()[:10]}) > 1
    assert known.observation_space.contains(first)
    for wrong in ({}, {"layout": -1}, {"layout": True}, {"goal": 1}):
        with pytest.raises(InvalidValue, match="task: expected a layout from 0 up"):
            known.make(wrong)
    with pytest.raises(InvalidValue, match="--env-arg layouts: expected 1 to 1,000,000, got 0"):
        family(name, {"layouts": 0})
    with pytest.raises(InvalidValue, match="minigrid:Empty names no environment of MiniGrid"):
        family("minigrid:Empty")


def test_a_goal_of_meta_world_is_the_same_in_every_process_and_not_shown() -> None:
    pytest.importorskip("metaworld")
    lockstep("metaworld:reach-v3", num_steps=25, max_episode_steps=10)
    known = family("metaworld:reach-v3", {"max_episode_steps": 10})
    assert (known.num_tasks, known.args, known.max_episode_steps) == (50, {"max_episode_steps": 10}, 10)
    goals = [known.make(task).unwrapped._last_rand_vec.tolist() for task in known.tasks()[:5]]
    assert len(set(map(tuple, goals))) == 5
    code = (
        "from historystore.tasks import family\nknown = family('metaworld:reach-v3')\n"
        "print([known.make({'goal': goal}).unwrapped._last_rand_vec.tolist() for goal in range(5)])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == f"{goals}\n"
    obs, _ = known.make({"goal": 0}).reset()
    assert obs[-3:].tolist() == [0.0, 0.0, 0.0], "where the benchmark would show the goal"
    with pytest.raises(InvalidValue, match=r"metaworld:reech-v3 is none of Meta-World's.*such as reach-v3"):
        family("metaworld:reech-v3")
    with pytest.raises(InvalidValue, match="task: expected a goal from 0 to 49"):
        known.make({"goal": 50})
