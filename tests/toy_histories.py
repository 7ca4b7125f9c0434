"""Small stores whose histories follow a rule that is learned in context, for the tests of `distill`."""

from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np

import historystore.store
from historystore.documents import LearnerSpec, Provenance
from historystore.fields import flatten
from historystore.store import Store
from historystore.tasks import Task, family
from historystore.tasks.grid import MOVES
from historystore.writer import StoreWriter

EPISODE_STEPS = 5
BANDIT_EPISODES = 20
RANDOM_EPISODES = 2


def write_bandits(
    path: Path, *, num_learners: int = 24, random_share: float = 0.0, first_reward: float | None = None
) -> Store:
    """Record learners of two-armed bandits: win, stay; lose, shift. So all but a learner's first pull can be foretold.

    Each learner pulls at random for the first `random_share` of its history. Tasks are many, and every odd one likes
    the second arm. `first_reward` stands in place of every learner's first.
    """
    spaces = {"observation_space": gym.spaces.Discrete(1), "action_space": gym.spaces.Discrete(2)}
    store = historystore.store.create(path, family="two-arms", **spaces)
    num_steps = BANDIT_EPISODES * EPISODE_STEPS
    is_end = np.arange(num_steps) % EPISODE_STEPS == EPISODE_STEPS - 1
    with StoreWriter(store) as writer:
        for i in range(num_learners):
            generator, arm = np.random.default_rng(i), i % 2
            action = np.where(np.arange(num_steps) < 1, generator.integers(2), arm)
            pulls = generator.integers(2, size=num_steps)
            action = np.where(np.arange(num_steps) < random_share * num_steps, pulls, action)
            reward = (action == arm).astype(np.float32)
            reward[:1] = reward[:1] if first_reward is None else first_reward
            steps = {
                "observation": np.zeros(num_steps, np.int64),
                "action": action,
                "reward": reward,
                "terminated": np.zeros(num_steps, bool),
                "truncated": is_end,
            }
            _write(writer, _spec("two-arms", {"arm": i}, num_steps), steps, np.zeros(is_end.sum(), np.int64), None)
    return historystore.store.open(path)


def write_targets(path: Path, *, num_learners: int = 120) -> Store:
    """Record learners that find a hidden number: an episode's first try is any, and the reward says how far it is off.

    The reward is the target less the action, both from -2 to 2.
    """
    spaces = {"observation_space": gym.spaces.Discrete(1), "action_space": gym.spaces.Box(-2.0, 2.0, (1,), np.float32)}
    store = historystore.store.create(path, family="targets", **spaces)
    num_steps = 8 * EPISODE_STEPS
    time = np.arange(num_steps) % EPISODE_STEPS
    with StoreWriter(store) as writer:
        for i in range(num_learners):
            generator = np.random.default_rng(i)
            target = generator.uniform(-2.0, 2.0)
            action = np.where(time == 0, generator.uniform(-2.0, 2.0, num_steps), target).astype(np.float32)
            steps = {
                "observation": np.zeros(num_steps, np.int64),
                "action": action[:, None],
                "reward": (target - action).astype(np.float32),
                "terminated": np.zeros(num_steps, bool),
                "truncated": time == EPISODE_STEPS - 1,
            }
            spec = _spec("targets", {"target": target}, num_steps)
            _write(writer, spec, steps, np.zeros(num_steps // EPISODE_STEPS, np.int64), None)
    return historystore.store.open(path)


def write_darkroom(
    path: Path, goals: Sequence[tuple[int, int]], *, num_episodes: int = 6, env_args: Sequence[dict[str, int]] = ({},)
) -> Store:
    """Record one learner for each goal on Dark Room: two episodes at random, the others straight to the goal.

    Learners have the arguments of the family in turn, none of which may change how long an episode is.
    """
    darkroom = family("darkroom", env_args[0])
    spaces = {"observation_space": darkroom.observation_space, "action_space": darkroom.action_space}
    store = historystore.store.create(path, family="darkroom", **spaces)
    with StoreWriter(store) as writer:
        for i, goal in enumerate(goals):
            task: Task = {"goal": list(goal)}
            steps, final = _live_in_darkroom(task, num_episodes, np.random.default_rng(i))
            bounds = {"best_return": darkroom.best_return(task), "random_return": darkroom.random_return(task)}
            args = env_args[i % len(env_args)]
            _write(writer, _spec("darkroom", task, num_episodes * 20, env_args=args), steps, final, bounds)
    return historystore.store.open(path)


def _live_in_darkroom(
    task: Task, num_episodes: int, generator: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Step one environment, and return its steps and the observations that ended its episodes."""
    env = family("darkroom").make_batched([task])
    goal = np.array(task["goal"])
    rows, final = [], []
    for episode in range(num_episodes):
        obs = env.reset()[0]
        for _ in range(20):
            action = int(generator.integers(5)) if episode < RANDOM_EPISODES else towards(obs, goal)
            following, reward, _, truncated = env.step(np.array([action]))
            rows.append((obs, action, reward[0], False, truncated[0]))
            obs = following[0]
        final.append(obs)
    names = ("observation", "action", "reward", "terminated", "truncated")
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True)), np.array(final)


def write_spaces(
    path: Path,
    observation_space: gym.Space,
    action_space: gym.Space,
    *,
    num_tasks: int = 8,
    returns: Sequence[float] = (),
    best_return: float | None = None,
) -> Store:
    """Record one learner for each task of a family without environments: what it sees and does is drawn at random.

    So are its rewards, unless the return of each learner's episodes is given.
    """
    store = historystore.store.create(
        path, family="known-spaces", observation_space=observation_space, action_space=action_space
    )
    num_steps = 4 * EPISODE_STEPS
    is_end = np.arange(num_steps) % EPISODE_STEPS == EPISODE_STEPS - 1
    for space in (observation_space, action_space):
        space.seed(0)
    with StoreWriter(store) as writer:
        for i in range(num_tasks):
            seen, done = (
                samples(name, space, num_steps)
                for name, space in (("observation", observation_space), ("action", action_space))
            )
            generator = np.random.default_rng(i)
            reward = np.full(num_steps, returns[i] / EPISODE_STEPS) if returns else generator.normal(size=num_steps)
            rest = {
                "reward": reward.astype(np.float32),
                "terminated": np.zeros(num_steps, bool),
                "truncated": is_end,
            }
            finals = {name: column[: is_end.sum()] for name, column in seen.items()}
            spec = _spec("known-spaces", {"id": i}, num_steps)
            _write(writer, spec, {**seen, **done, **rest}, finals, {"best_return": best_return})
    return historystore.store.open(path)


def samples(name: str, space: gym.Space, count: int) -> dict[str, np.ndarray]:
    """Draw values of a space as columns."""
    drawn = [flatten(name, space, space.sample()) for _ in range(count)]
    return {key: np.stack([each[key] for each in drawn]) for key in drawn[0]}


def towards(obs: np.ndarray, goal: np.ndarray) -> int:
    """Return the action that goes nearest to the goal."""
    return int(np.abs(obs + MOVES - goal).sum(axis=1).argmin())


def _spec(name: str, task: Task, num_steps: int, *, env_args: dict[str, int] | None = None) -> LearnerSpec:
    return LearnerSpec(
        family=name,
        env_args=env_args or {},
        task=task,
        algorithm="Toy",
        policy="Rule",
        num_streams=1,
        num_steps=num_steps,
        seed=0,
    )


def _write(
    writer: StoreWriter,
    spec: LearnerSpec,
    steps: dict[str, np.ndarray],
    final: np.ndarray | dict[str, np.ndarray],
    bounds: dict[str, float | None] | None,
) -> None:
    provenance = Provenance(
        engine="custom", engine_version="0", algorithm_path="toy", environment="toy", host="here", **(bounds or {})
    )
    learner = writer.begin(spec, provenance=provenance)
    learner.add_steps(
        {name: column[:, None] for name, column in steps.items()},
        final_observations=final if isinstance(final, dict) else {"observation": final},
        next_observation={name: column[:1] for name, column in steps.items() if name.startswith("observation")},
    )
    learner.finish()
