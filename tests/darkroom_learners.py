"""A small Dark Room store whose learners follow a script: the same steps, digests and pictures every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import historystore as hs
from historystore.tasks import Family, Task, family

NUM_EPISODES = 24
MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1), (0, 0))


def darkroom_store(path: Path) -> Path:
    """Write five learners: three complete ones, of which one has two streams, a partial and a failed one."""
    rooms = family("darkroom")
    spaces = {"observation_space": rooms.observation_space, "action_space": rooms.action_space}
    store = hs.create(path, family="darkroom", **spaces)
    with hs.StoreWriter(store, seal_s=1e9) as writer:
        for seed in range(5):
            learner = begin(writer, rooms, seed, num_streams=2 if seed == 1 else 1)
            for episode in range(NUM_EPISODES if seed < 3 else 9):
                learner.add_steps(**block(rooms, learner.spec, episode))
                learner.add_update(
                    step=20 * (episode + 1),
                    values={"train/loss": 1 / (episode + 1), "train/entropy_loss": 0.1 * episode - 1.6},
                    learning_rate=3e-4,
                    wall_time_s=0.5 * episode,
                )
            if seed != 3:
                learner.finish(
                    status="failed" if seed == 4 else "complete", error="ValueError: boom" if seed == 4 else None
                )
    return path


def begin(writer: hs.StoreWriter, rooms: Family, seed: int, *, num_streams: int) -> hs.LearnerWriter:
    """Begin a learner; seeds 0 and 2 have the same task."""
    task: Task = {"goal": [6, 3] if seed in (0, 2) else [seed, 8 - seed]}
    spec = hs.LearnerSpec(
        family="darkroom",
        task=task,
        algorithm="A2C" if seed == 2 else "PPO",
        policy="MlpPolicy",
        hyperparameters={"learning_rate": 3e-4, "gamma": 0.9, "n_steps": 20},
        num_streams=num_streams,
        num_steps=20 * NUM_EPISODES * num_streams,
        seed=seed,
    )
    provenance = hs.Provenance(
        engine="sb3",
        engine_version="2.9.2",
        algorithm_path="stable_baselines3.ppo:PPO",
        environment=rooms.env_id,
        versions={"numpy": "2.4.6", "torch": "2.13.0"},
        git_commit="0123456789abcdef",
        host="workbench",
        best_return=rooms.best_return(task),
        random_return=rooms.random_return(task),
    )
    return writer.begin(spec, provenance=provenance)


def block(rooms: Family, spec: hs.LearnerSpec, episode: int) -> dict[str, object]:
    """Play one episode: towards the goal as often as the learner has got on, in turn, and else to the right."""
    goal = np.array(spec.task["goal"])
    env = rooms.make_batched([spec.task] * spec.num_streams)
    obs = env.reset()
    rows: dict[str, list[np.ndarray]] = {}
    for step in range(20):
        is_wise = (step * (episode + 1)) % NUM_EPISODES <= 2 * episode
        wise = [int(np.argmin([np.abs(place + move - goal).sum() for move in MOVES])) for place in obs]
        action = np.array(wise if is_wise else [0] * spec.num_streams)
        following, reward, terminated, truncated = env.step(action)
        value = np.full(spec.num_streams, 0.25 * step, np.float32)
        row = {"observation": obs, "action": action, "reward": reward, "terminated": terminated}
        for name, array in (row | {"truncated": truncated, "value": value}).items():
            rows.setdefault(name, []).append(array)
        obs = following
    seeds = np.full((20, spec.num_streams), -1)
    seeds[0] = 100 * episode + np.arange(spec.num_streams)
    return {
        "steps": {name: np.stack(arrays) for name, arrays in rows.items()},
        "final_observations": {"observation": obs},
        "next_observation": {"observation": env.reset()},
        "episode_seeds": seeds,
    }
