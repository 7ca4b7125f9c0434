"""Settings under which a family's learners converge, found by measurement.

The figures in a preset's `why` come from `python tests/benchmarks/presets.py ALGO FAMILY`, on one busy core of a 2-core
x86-64 machine with one torch thread. A `why` without figures says that nobody has measured it.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

from historystore.errors import InvalidValue


class Preset(BaseModel):
    """What a learner is given unless the caller says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str
    """Its class in Stable-Baselines3."""
    policy: str
    num_streams: int
    num_steps: int
    """Environment steps over all streams, SB3's `total_timesteps`."""
    hyperparameters: dict[str, JsonValue]
    """What differs from the algorithm's own defaults, by Stable-Baselines3's names."""
    why: str
    """One sentence, and the figures it was chosen by."""


_PRESETS: dict[tuple[str, str], Preset] = {
    ("ppo", "darkroom"): Preset(
        algorithm="PPO",
        policy="MlpPolicy",
        num_streams=1,
        num_steps=6_000,
        hyperparameters={
            "n_steps": 400,
            "batch_size": 400,
            "n_epochs": 10,
            "learning_rate": 3e-3,
            "gamma": 0.85,
            "ent_coef": 0.03,
        },
        why=(
            "One stream, so that a history alone shows why its policy improved, and whole batches, because "
            "optimiser steps cost time: with seeds 0-17, 17 of 18 learners ended within 10 %, 3 CPU s each."
        ),
    ),
    ("a2c", "darkroom"): Preset(
        algorithm="A2C",
        policy="MlpPolicy",
        num_streams=8,
        num_steps=20_000,
        hyperparameters={
            "n_steps": 10,
            "learning_rate": 3e-3,
            "gamma": 0.9,
            "ent_coef": 0.01,
        },
        why=(
            "Eight streams, whose joint gradient bears this learning rate: with seeds 0-7, 8 of 8 learners ended "
            "within 10 % of their best; mean share of the best 0.38 in the first 2 000 steps, 0.95 in the next; 2.2 s "
            "of CPU each."
        ),
    ),
    ("dqn", "darkroom"): Preset(
        algorithm="DQN",
        policy="MlpPolicy",
        num_streams=1,
        num_steps=12_000,
        hyperparameters={
            "learning_rate": 1e-3,
            "buffer_size": 12_000,
            "learning_starts": 200,
            "batch_size": 64,
            "gamma": 0.9,
            "train_freq": 4,
            "target_update_interval": 200,
            "exploration_fraction": 0.5,
            "exploration_final_eps": 0.01,
        },
        why=(
            "One stream, greedy in 99 of 100 actions at the end: with seeds 0-5, 6 of 6 learners ended within "
            "10 % of their best, 8 CPU s each."
        ),
    ),
    ("ppo", "darkroom-hard"): Preset(
        algorithm="PPO",
        policy="MlpPolicy",
        num_streams=16,
        num_steps=200_000,
        hyperparameters={
            "n_steps": 20,
            "batch_size": 320,
            "n_epochs": 4,
            "learning_rate": 3e-3,
            "gamma": 0.95,
            "ent_coef": 0.01,
        },
        why="Sixteen streams and one large batch. Not measured yet: expect far goals never to be found.",
    ),
    ("a2c", "darkroom-hard"): Preset(
        algorithm="A2C",
        policy="MlpPolicy",
        num_streams=16,
        num_steps=160_000,
        hyperparameters={
            "n_steps": 10,
            "learning_rate": 3e-3,
            "gamma": 0.95,
            "ent_coef": 0.003,
        },
        why=(
            "Sixteen streams, a longer horizon and little entropy, so that a rare success is kept; not measured with "
            "this library yet: expect some of the farthest goals never to be found."
        ),
    ),
    ("dqn", "darkroom-hard"): Preset(
        algorithm="DQN",
        policy="MlpPolicy",
        num_streams=1,
        num_steps=60_000,
        hyperparameters={
            "learning_rate": 1e-3,
            "buffer_size": 60_000,
            "learning_starts": 200,
            "batch_size": 64,
            "gamma": 0.9,
            "train_freq": 4,
            "target_update_interval": 200,
            "exploration_fraction": 0.5,
            "exploration_final_eps": 0.01,
        },
        why="The settings of Dark Room, five times as long. Not measured yet: expect far goals never to be found.",
    ),
}


def algorithms() -> list[str]:
    """List the names of the algorithms that have presets, sorted."""
    return sorted({algo for algo, _ in _PRESETS})


def preset(algo: str, family_name: str) -> Preset:
    """Return the settings of that algorithm for that family.

    Raises:
        InvalidValue: there are none.
    """
    if algo not in algorithms():
        raise InvalidValue(
            f"algo: no algorithm is called {algo!r}, expected one of {', '.join(algorithms())}. Check the name."
        )
    if (algo, family_name) not in _PRESETS:
        known = sorted(name for known_algo, name in _PRESETS if known_algo == algo)
        raise InvalidValue(
            f"env: {algo} has no preset for {family_name!r}, expected one of {', '.join(known)}. Check the name."
        )
    return _PRESETS[algo, family_name]
