"""One training and one life in context for every kind of space and layout."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from test_distill_training import config
from toy_histories import samples, write_spaces

from distill import load_run, train
from distill.context import Context
from distill.model import DistilledAgent
from distill.rollouts import iter_rollouts
from historystore.fields import unflatten

FRAMES = gym.spaces.Box(0, 255, (48, 50, 3), np.uint8)
OBSERVATIONS = {
    "coordinates": gym.spaces.MultiDiscrete([9, 9]),
    "vector": gym.spaces.Box(-1.0, 1.0, (3,), np.float32),
    "frames": FRAMES,
    "parts": gym.spaces.Dict(frame=FRAMES, place=gym.spaces.Discrete(4), speed=gym.spaces.Box(-9.0, 9.0, (2,))),
}
ACTIONS = {
    "one": gym.spaces.Discrete(3, start=2),
    "several": gym.spaces.MultiDiscrete([3, 2]),
    "continuous": gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 0.5], np.float32)),
}
LAYOUTS = {
    "one": {},
    "three": {"layout": "three", "norm": "post", "positions": "learned"},
    "paper": {"layout": "three", "norm": "post", "image_encoder": "paper", "dropout": 0.1, "attention_dropout": 0.5},
}
SETTINGS = {"context_length": 10, "updates": 2, "batch_size": 2, "validation_windows": 2, "min_progress": "none"}


class Anything:
    """Environments of any spaces: observations are drawn, episodes last three steps, actions are checked."""

    source_observation_space = None

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, *, num_envs: int = 3) -> None:
        self.observation_space, self.action_space, self.num_envs = observation_space, action_space, num_envs
        self.tasks = tuple({} for _ in range(num_envs))
        self.clock = 0

    def source_observation(self) -> np.ndarray: ...
    def state(self) -> dict[str, np.ndarray]: ...
    def restore(self, state: object) -> None: ...

    def reset(self, mask: np.ndarray | None = None, *, seeds: object = None) -> object:
        columns = samples("observation", self.observation_space, self.num_envs)
        return unflatten("observation", self.observation_space, columns)

    def step(self, actions: np.ndarray) -> tuple[object, np.ndarray, np.ndarray, np.ndarray]:
        assert all(action in self.action_space for action in actions)
        self.clock += 1
        is_done = np.full(self.num_envs, self.clock % 3 == 0)
        return self.reset(), np.full(self.num_envs, -1.5), is_done, np.zeros(self.num_envs, bool)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("observations", OBSERVATIONS)
def test_a_store_of_any_spaces_is_distilled_and_lived_in(
    tmp_path: Path, observations: str, actions: str, layout: str
) -> None:
    spaces = OBSERVATIONS[observations], ACTIONS[actions]
    store = write_spaces(tmp_path / "store", *spaces)
    *_, last = train(store, tmp_path / "run", config(**SETTINGS, **LAYOUTS[layout]))
    assert last.validation is not None
    assert np.isfinite(last.validation.loss)
    agent = load_run(tmp_path / "run").load_agent()
    *_, log = iter_rollouts(agent, Anything(*spaces), num_episodes=5, seed=0)
    np.testing.assert_array_equal(log.returns[:, :-1], -4.5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("observations", OBSERVATIONS)
@torch.inference_mode()
def test_cached_logits_are_those_of_the_whole_context_and_each_observation_is_encoded_once(
    observations: str, layout: str
) -> None:
    space, num_envs, num_steps = OBSERVATIONS[observations], 2, 25
    model = agent_of(space, ACTIONS["several"], **LAYOUTS[layout])
    context = Context(model, num_envs=num_envs)
    num_encoded = []
    model.embedding.encoder.register_forward_hook(
        lambda module, columns, encoded: num_encoded.append(encoded.shape[0] * encoded.shape[1])
    )
    for step in range(num_steps):
        obs = unflatten("observation", space, samples("observation", space, num_envs))
        logits = context.logits(obs, np.full(num_envs, step % 4 == 0))
        torch.testing.assert_close(logits, model(context.tokens())[:, -1], rtol=1e-4, atol=1e-4)
        context.complete(torch.ones((num_envs, 2), dtype=torch.int64), np.zeros(num_envs, np.float32))
    assert sum(num_encoded) == num_envs * num_steps


@pytest.mark.parametrize("observations", ["frames", "parts"])
def test_frames_are_encoded_once_though_tokens_show_them_twice(observations: str) -> None:
    """A token shows the observation before it too, by the same vector, shifted."""
    model = agent_of(OBSERVATIONS[observations], ACTIONS["one"])
    columns = samples("observation", OBSERVATIONS[observations], 5)
    encoded = model.encode({name: torch.from_numpy(column)[None] for name, column in columns.items()})
    assert encoded.shape == (1, 5, 16)
    assert model.embedding.previous_observation.in_features == 16


def agent_of(observation_space: gym.Space, action_space: gym.Space, **settings: object) -> DistilledAgent:
    torch.manual_seed(0)
    made = DistilledAgent(
        config(**settings).model, context_length=10, observation_space=observation_space, action_space=action_space
    )
    torch.nn.init.normal_(made.head.weight)
    return made.eval()


def test_kept_weights_come_with_the_statistics_of_batch_norm(tmp_path: Path) -> None:
    store = write_spaces(tmp_path / "store", FRAMES, ACTIONS["one"])
    list(train(store, tmp_path / "run", config(**SETTINGS, image_encoder="paper", ema_decay=0.9)))
    kept = load_run(tmp_path / "run").load_agent().state_dict()
    counts = [value.item() for name, value in kept.items() if name.endswith("num_batches_tracked")]
    assert counts == [SETTINGS["updates"]] * 3


def test_numbers_beside_images_are_embedded_without_rounding() -> None:
    space = gym.spaces.Dict(place=gym.spaces.Discrete(4), speed=gym.spaces.Box(-9.0, 9.0, (2,)))
    model = agent_of(space, ACTIONS["one"])
    columns = {name: torch.from_numpy(column)[None] for name, column in samples("observation", space, 6).items()}
    exact = model.encode(columns)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.encode(columns), exact, rtol=0, atol=0)
