"""The algorithms by the names that `--algo` takes: which class each is, and which engine carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from historystore.errors import InvalidValue

_SB3, _CONTRIB = "stable_baselines3", "sb3_contrib"
_CLASSIC = {"module": "historystore.classic", "engine": "classic"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """A class whose constructor's arguments are the hyperparameters."""

    name: str
    """As specifications write it: the class's name, or `module:Class` for one that is not in the table."""
    module: str
    """Where the class can be imported from."""
    engine: str = "sb3"

    @property
    def class_name(self) -> str:
        """The class within its module."""
        return self.name.rpartition(":")[2]


_ALGORITHMS: dict[str, Algorithm] = {
    "a2c": Algorithm(name="A2C", module=_SB3),
    "ddpg": Algorithm(name="DDPG", module=_SB3),
    "dqn": Algorithm(name="DQN", module=_SB3),
    "expert": Algorithm(name="Expert", **_CLASSIC),
    "noise": Algorithm(name="NoiseDistillation", **_CLASSIC),
    "ppo": Algorithm(name="PPO", module=_SB3),
    "q-learning": Algorithm(name="QLearning", **_CLASSIC),
    "qr-dqn": Algorithm(name="QRDQN", module=_CONTRIB),
    "recurrent-ppo": Algorithm(name="RecurrentPPO", module=_CONTRIB),
    "sac": Algorithm(name="SAC", module=_SB3),
    "td3": Algorithm(name="TD3", module=_SB3),
    "thompson": Algorithm(name="ThompsonSampling", **_CLASSIC),
    "trpo": Algorithm(name="TRPO", module=_CONTRIB),
    "ucb": Algorithm(name="UCB", **_CLASSIC),
}


def algorithms() -> list[str]:
    """List the names of the algorithms, sorted."""
    return sorted(_ALGORITHMS)


def algorithm(algo: str) -> Algorithm:
    """Return the algorithm of that name, or the one at an import path (`my_package.module:MyAlgo`); loads neither.

    Raises:
        InvalidValue: it is neither.
    """
    if algo in _ALGORITHMS:
        return _ALGORITHMS[algo]
    module, colon, name = algo.partition(":")
    if colon and all(part.isidentifier() for part in [*module.split("."), name]):
        return Algorithm(name=algo, module=module)
    close = get_close_matches(algo.lower(), _ALGORITHMS, n=1)
    advice = f"Did you mean {close[0]}?" if close else "Check the name."
    raise InvalidValue(
        f"algo: no algorithm is called {algo!r}, expected one of {', '.join(algorithms())} or an import path such as "
        f"my_package.module:MyAlgo. {advice}"
    )


def algorithm_of_spec(name: str) -> Algorithm:
    """Return the algorithm that a specification names.

    Raises:
        InvalidValue: nothing is called so.
    """
    return next((known for known in _ALGORITHMS.values() if known.name == name), None) or algorithm(name)
