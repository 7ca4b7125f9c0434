"""Evaluation rollouts: a frozen agent lives many episodes in many tasks at once, and learns in its context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int

from historystore.splits import Task
from historystore.tasks import BatchedEnv, Family
from historystore.tasks.own_checks import called

from .context import Context
from .model import DistilledAgent

MAX_ENVS = 256
"""Environments that run at once: more are no faster, and their caches grow."""

_WHERE = "evaluation: the environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """The return and the length of each episode of each rollout of each task."""

    returns: Float[np.ndarray, "tasks rollouts episodes"]
    lengths: Int[np.ndarray, "tasks rollouts episodes"]


class EpisodeLog:
    """Adds up rewards into returns, episode by episode, until every environment has lived the episodes asked for."""

    def __init__(self, num_envs: int, num_episodes: int) -> None:
        self.returns = np.zeros((num_envs, num_episodes + 1))
        self.lengths = np.zeros((num_envs, num_episodes + 1), np.int64)
        self.episode = np.zeros(num_envs, np.int64)
        self.rows, self.num_episodes = np.arange(num_envs), num_episodes

    def add(self, reward: Float[np.ndarray, envs], is_done: np.ndarray) -> None:
        """Add one step of every environment; what comes after the last episode falls into a column never read."""
        self.returns[self.rows, self.episode] += reward
        self.lengths[self.rows, self.episode] += 1
        self.episode = np.minimum(self.episode + is_done, self.num_episodes)

    @property
    def is_complete(self) -> bool:
        """Whether every environment has lived all its episodes."""
        return bool((self.episode == self.num_episodes).all())


def iter_rollouts(agent: DistilledAgent, env: BatchedEnv, *, num_episodes: int, seed: int) -> Iterator[EpisodeLog]:
    """Step all environments until each has lived `num_episodes`, from an empty context; yield the log at each step.

    Actions are sampled, weights never change, and the context runs on across episodes. A function of the seed, which
    the environments draw from too: the caller's generators are left alone.

    Raises:
        InvalidValue: an environment raises.
    """
    device = agent.device
    generator = torch.Generator(device).manual_seed(seed)
    context, log = Context(agent, num_envs=env.num_envs), EpisodeLog(env.num_envs, num_episodes)
    seeds = (np.random.SeedSequence(seed).generate_state(env.num_envs) >> np.uint32(1)).tolist()
    obs, episode_start = called(partial(env.reset, seeds=seeds), where=_WHERE), np.ones(env.num_envs, bool)
    while not log.is_complete:
        with torch.inference_mode():
            action = agent.actions.sample(context.logits(obs, episode_start), generator)
        obs, reward, terminated, truncated = called(env.step, agent.actions.actions(action), where=_WHERE)
        with torch.inference_mode():
            context.complete(action, reward.astype(np.float32))
        episode_start = terminated | truncated
        log.add(reward, episode_start)
        if episode_start.any():
            obs = called(env.reset, episode_start, where=_WHERE)
        yield log


def roll_out(
    agent: DistilledAgent,
    family: Family,
    tasks: Sequence[Task],
    *,
    num_rollouts: int,
    num_episodes: int,
    seed: int,
    on_step: Callable[[float], None] = lambda share: None,
) -> Rollouts:
    """Live `num_episodes` in each task, `num_rollouts` times over; arrays come back as (tasks, rollouts, episodes).

    At most `MAX_ENVS` environments run at once, so that memory does not grow with what is asked for. `on_step` hears
    after each step which share of all is done.
    """
    entries = [task for task in tasks for _ in range(num_rollouts)]
    groups = [entries[start : start + MAX_ENVS] for start in range(0, len(entries), MAX_ENVS)]
    logs = []
    for i, group in enumerate(groups):
        seed_of_group = int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        env = family.make_batched(group)
        for log in iter_rollouts(agent, env, num_episodes=num_episodes, seed=seed_of_group):
            on_step((i + log.episode.mean() / num_episodes) / len(groups))
        logs.append(log)
    shape = (len(tasks), num_rollouts, num_episodes)
    return Rollouts(
        returns=np.concatenate([log.returns[:, :-1] for log in logs]).reshape(shape),
        lengths=np.concatenate([log.lengths[:, :-1] for log in logs]).reshape(shape),
    )
