"""Watermaze, whose source learners see the state; the pixels are recorded beside it."""

from historystore.recording.presets.model import Preset

PRESETS: dict[tuple[str, str], Preset] = {
    ("dqn", "watermaze"): Preset(
        num_steps=12_000,
        hyperparameters={
            "learning_rate": 1e-3,
            "buffer_size": 12_000,
            "learning_starts": 500,
            "batch_size": 64,
            "gamma": 0.95,
            "train_freq": 4,
            "target_update_interval": 200,
            "exploration_fraction": 0.5,
            "exploration_final_eps": 0.02,
        },
        why=(
            "One stream that improves over all its 240 episodes: with seeds 0-7, 8 of 8 learners ended above 0.9 of "
            "1, 0.995 in the mean; by fifths of the training 0.31, 0.72, 0.90, 0.99, 1.0; 5 s of CPU each."
        ),
    ),
    ("ppo", "watermaze"): Preset(
        num_streams=8,
        num_steps=32_000,
        hyperparameters={
            "n_steps": 100,
            "batch_size": 200,
            "n_epochs": 10,
            "learning_rate": 2e-3,
            "gamma": 0.9,
            "ent_coef": 0.05,
        },
        why=(
            "Much entropy, for with less of it some learners never find the platform, and length to be sure of it: "
            "with seeds 0-23, 22 of 24 converged; after 20 000 steps 8 of 12."
        ),
    ),
}
