"""Learners of the classic engine: bandit algorithms, tabular Q-learning, and noisy or plain experts.

Their figures are those of `hist record` with seeds 0-80 and of the last ten episodes of each learner.
"""

from historystore.recording.presets.model import Preset

_BANDITS: dict[tuple[str, str], Preset] = {
    ("ucb", "bandit"): Preset(
        policy="ArmTable",
        num_steps=1_000,
        hyperparameters={"coefficient": 0.3},
        why=(
            "Ten episodes, and less width than UCB1's, which still explores when they are over: "
            "UCB1 pays 0.70 of the best arm in the first hundred pulls and 0.86 in a thousand, this one 0.87 and 0.97 "
            "(79 of 81 learners within 10 % over all of them)."
        ),
    ),
    ("thompson", "bandit"): Preset(
        policy="ArmTable",
        num_steps=1_000,
        why=(
            "Ten episodes from uniform beliefs: 0.85 of the best arm in the first hundred pulls and 0.97 in a thousand "
            "(80 of 81 learners within 10 % over all of them)."
        ),
    ),
}

_Q_LEARNERS: dict[tuple[str, str], Preset] = {
    ("q-learning", "darkroom"): Preset(
        policy="QTable",
        num_steps=8_000,
        hyperparameters={
            "learning_rate": 0.1,
            "gamma": 0.9,
            "initial_value": 1.0,
            "epsilon_start": 0.5,
            "epsilon_final": 0.01,
            "anneal_share": 0.8,
        },
        why=(
            "400 episodes, in which hope for what was never tried and half as much chance make an even rise: with "
            "seeds 0-80, 81 of 81 learners ended within 10 %; mean share by tenths of the history 0.14, 0.30, "
            "0.44, 0.57, 0.68, 0.78, 0.87, 0.95, 0.99, 0.99."
        ),
    ),
    ("q-learning", "darkroom-hard"): Preset(
        policy="QTable",
        num_steps=40_000,
        hyperparameters={
            "learning_rate": 0.3,
            "gamma": 0.95,
            "initial_value": 0.2,
            "epsilon_start": 0.1,
            "epsilon_final": 0.0,
            "anneal_share": 0.8,
            "update_interval": 400,
        },
        why=(
            "2000 episodes; the far goals are found because everything untried looks good, hardly by chance: with "
            "seeds 0-80, 81 of 81 learners ended at their best; mean share by tenths 0.27, 0.55, 0.78, 0.87, 0.95, ..."
        ),
    ),
    ("q-learning", "dark-key-to-door"): Preset(
        policy="QTable",
        num_steps=50_000,
        hyperparameters={
            "learning_rate": 0.1,
            "gamma": 0.95,
            "initial_value": 0.4,
            "epsilon_start": 0.5,
            "epsilon_final": 0.0,
            "anneal_share": 0.8,
            "update_interval": 500,
        },
        why=(
            "1000 episodes; the has-key bit, which the family shows the source by default, gives the table two halves: "
            "with seeds 0-80, 81 of 81 learners ended within 10 %; mean share by tenths 0.43, 0.78, 0.94, 0.99, ..."
        ),
    ),
    ("q-learning", "darkroom-permuted"): Preset(
        policy="QTable",
        num_steps=20_000,
        hyperparameters={
            "learning_rate": 0.1,
            "gamma": 0.9,
            "initial_value": 1.0,
            "epsilon_start": 0.5,
            "epsilon_final": 0.01,
            "anneal_share": 0.8,
            "update_interval": 200,
        },
        why=(
            "400 episodes of fifty steps, otherwise as in Dark Room: with seeds 0-80, 81 of 81 learners ended within "
            "10 %; mean share by tenths 0.00, 0.01, 0.04, 0.12, 0.24, 0.42, 0.62, 0.80, 0.94, 0.99."
        ),
    ),
}

_LENGTHS = {"bandit": 2_000, "dark-key-to-door": 25_000, "darkroom": 8_000, "darkroom-hard": 10_000}
_LENGTHS |= {"darkroom-permuted": 20_000}

_NOISY: dict[tuple[str, str], Preset] = {
    ("noise", world): Preset(
        policy="Optimal",
        num_steps=num_steps,
        hyperparameters={"anneal_share": 0.5 if world == "bandit" else 0.8},
        why="Noise falls evenly over most of the history, and what is best is done in the rest: ten episodes or more.",
    )
    for world, num_steps in _LENGTHS.items()
}

_EXPERTS: dict[tuple[str, str], Preset] = {
    ("expert", world): Preset(
        policy="Optimal",
        num_steps=num_steps // 5,
        why="As many episodes of the best policy as the noisy one ends with.",
    )
    for world, num_steps in _LENGTHS.items()
}

_WATERMAZE: dict[tuple[str, str], Preset] = {
    ("noise", "watermaze"): Preset(
        policy="Optimal",
        num_steps=3_000,
        hyperparameters={"anneal_share": 0.8},
        why=(
            "Sixty episodes, few because every step is a picture: with seeds 0-15, 16 of 16 learners ended at their "
            "best; mean share by tenths 0.26, 0.61, 0.88, 0.96, 1.0, ...; 683 bytes a step."
        ),
    ),
    ("expert", "watermaze"): Preset(
        policy="Optimal",
        num_steps=600,
        why="As many episodes as the noisy one ends with: 16 of 16 at their best, 779 bytes a step.",
    ),
}

PRESETS: dict[tuple[str, str], Preset] = {**_BANDITS, **_Q_LEARNERS, **_NOISY, **_EXPERTS, **_WATERMAZE}
