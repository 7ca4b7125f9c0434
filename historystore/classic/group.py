"""Learners and their environments, stepped together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from historystore import tasks
from historystore.classic.agent import Outcome
from historystore.classic.agents import build_agent
from historystore.classic.recording import GroupRecording
from historystore.documents import LearnerSpec
from historystore.fields import flatten

Columns = dict[str, np.ndarray]


class Group:
    """The learners of some specifications of one template; environments are seeded as the learners are.

    `policies` is the store of the models that act, where specifications name some.
    """

    def __init__(self, specs: Sequence[LearnerSpec], *, policies: str | None = None) -> None:
        template, seeds = specs[0], [spec.seed or 0 for spec in specs]
        family = tasks.family(template.family, template.env_args)
        self._envs = family.make_batched([spec.task for spec in specs])
        self._agent = build_agent(specs, self._envs, policies=policies)
        self._first_action = getattr(self._envs.action_space, "start", 0)
        self._step = 0
        self._look(self._envs.reset(seeds=seeds))

    @property
    def num_bytes(self) -> int:
        """What the learners hold in memory."""
        return self._agent.num_bytes

    def step(self, recording: GroupRecording) -> None:
        """Act, learn and record once everywhere."""
        choice = self._agent.act(self._step, self._seen)
        actions = choice.actions + self._first_action
        following, rewards, terminated, truncated = self._envs.step(actions)
        row = {
            **self._shown,
            "action": actions,
            "reward": rewards,
            "terminated": terminated,
            "truncated": truncated,
            **({} if choice.log_probs is None else {"log_prob": choice.log_probs.astype(np.float32)}),
            **self._source_columns(),
        }
        self._look(following)
        led_to, is_end = self._shown, terminated | truncated
        self._agent.learn(choice.actions, Outcome(rewards, terminated, is_end, self._seen))
        self._step += 1
        if has_ends := bool(is_end.any()):
            self._look(self._envs.reset(is_end))
        recording.add(row, is_end=is_end if has_ends else None, following=led_to, shown=self._shown)
        if (update := self._agent.update(self._step)) is not None:
            recording.add_update(update)

    def _look(self, obs: Any) -> None:
        """Take in what the environments show now, and what the learners see of them."""
        envs = self._envs
        self._shown: Columns = flatten("observation", envs.observation_space, obs)
        self._seen: Any = obs if envs.source_observation_space is None else envs.source_observation()

    def _source_columns(self) -> Columns:
        space = self._envs.source_observation_space
        return {} if space is None else flatten("source_observation", space, self._seen)
