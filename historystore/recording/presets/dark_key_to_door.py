"""Dark Key-to-Door, whose source learner sees whether it holds the key."""

from historystore.recording.presets.model import Preset

PRESETS: dict[tuple[str, str], Preset] = {
    ("ppo", "dark-key-to-door"): Preset(
        policy="MlpPolicy",
        num_streams=16,
        num_steps=80_000,
        hyperparameters={
            "n_steps": 25,
            "batch_size": 400,
            "n_epochs": 10,
            "learning_rate": 3e-3,
            "gamma": 0.95,
            "ent_coef": 0.03,
            "normalize_advantage": False,
        },
        why=(
            "Advantages as they are: scaled to one they are noise where a learner holds the key and has never seen the "
            "door, and that noise ends its exploring (38 of 64 learners converged). Learned in lockstep, 32 of 32 "
            "learners ended within 10 % of their best, with one stream 64 of 64; all met the door."
        ),
    ),
}
