"""Small learners of the classic engine, recorded in this process in groups of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import historystore as hs
from historystore.classic.engine import ClassicEngine
from historystore.documents import LearnerSpec
from historystore.recording.engines import Session
from historystore.recording.messages import Finished
from historystore.tasks import family


def learner_specs(
    algorithm: str,
    env: str,
    *,
    num_learners: int,
    num_steps: int,
    env_args: dict[str, Any] | None = None,
    **hyperparameters: Any,
) -> list[LearnerSpec]:
    """Return the specifications of learners with seeds 0, 1, 2, ..."""
    rooms = family(env, env_args)
    return [
        LearnerSpec(
            family=env,
            env_args=rooms.args,
            task=rooms.task_of_seed(seed),
            algorithm=algorithm,
            policy="any",
            hyperparameters={"engine": "classic", **hyperparameters},
            num_streams=1,
            num_steps=num_steps,
            seed=seed,
        )
        for seed in range(num_learners)
    ]


def recorded(
    path: Path, specs: list[LearnerSpec], *, group_size: int, policies: str | None = None, **settings: Any
) -> list[Finished]:
    """Record learners into a new store, so many at a time."""
    rooms, ended = family(specs[0].family, specs[0].env_args), []
    spaces = {"observation_space": rooms.observation_space, "action_space": rooms.action_space}
    with hs.StoreWriter(hs.create(path, family=rooms.name, **spaces)) as writer:
        session = Session(
            **{"writer": writer, "fields": None, "checkpoints": None, "watch": lambda num_steps: None, **settings}
        )
        for start in range(0, len(specs), group_size):
            ended += ClassicEngine(policies=policies).learn(specs[start : start + group_size], session)
    return ended
