"""What the transformer can see, and what it cannot."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from distill import ModelConfig
from distill.images import SmallEncoder
from distill.model import Cache, DistilledAgent
from distill.tokens import Tokens, window_tokens
from historystore.errors import InvalidValue
from historystore.fields import flatten

CONTEXT = 12
GRID = gym.spaces.MultiDiscrete([5, 5])
MOVES = gym.spaces.Discrete(4)


def agent(observation_space: gym.Space = GRID, action_space: gym.Space = MOVES, **settings: object) -> DistilledAgent:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"width": 16, "heads": 2, "layers": 2, "feed_forward": 32, **settings})
    made = DistilledAgent(
        config, context_length=CONTEXT, observation_space=observation_space, action_space=action_space
    )
    torch.nn.init.normal_(made.head.weight)
    return made.eval()


def tokens(*, batch: int = 3, time: int = CONTEXT, seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    return window_tokens(
        observation=torch.randint(5, (batch, time, 2), generator=generator),
        action=torch.randint(4, (batch, time), generator=generator),
        reward=torch.rand((batch, time), generator=generator),
        episode_start=torch.rand((batch, time), generator=generator) < 0.3,
    )


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_logit_depends_on_what_comes_later(positions: str, precision: torch.dtype) -> None:
    model, one, other = agent(positions=positions), tokens(seed=1), tokens(seed=2)
    cut = 7
    mixed = Tokens(
        **{
            name: torch.cat([getattr(one, name)[:, :cut], getattr(other, name)[:, cut:]], dim=1)
            for name in Tokens.__dataclass_fields__
        }
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        before, after = model(one), model(mixed)
    torch.testing.assert_close(before[:, :cut], after[:, :cut], rtol=0, atol=0)
    assert (before[:, cut:] != after[:, cut:]).any()


def test_attention_in_bfloat16_is_attention() -> None:
    model, window = agent(), tokens()
    exact = model(window)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(window)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("part", ["previous_observation", "previous_action", "previous_reward"])
def test_a_token_reads_the_transition_before_it(part: str) -> None:
    model, window = agent(), tokens()
    changed = getattr(window, part).clone()
    changed[:, 5] = 3 - changed[:, 5] if part == "previous_action" else 4 - changed[:, 5]
    assert (model(replace(window, **{part: changed}))[:, 5] != model(window)[:, 5]).all()


def test_a_window_holds_the_transition_before_each_position_also_across_an_episode_start() -> None:
    obs = torch.tensor([[[0, 1], [1, 1], [2, 2], [2, 3]]])
    window = window_tokens(
        observation=obs,
        action=torch.tensor([[3, 2, 1, 0]]),
        reward=torch.tensor([[0.0, 1.0, 0.5, 0.25]]),
        episode_start=torch.tensor([[True, False, True, False]]),
    )
    assert window.previous_action[0, 1:].tolist() == [3, 2, 1]
    assert window.previous_reward[0, 1:].tolist() == [0.0, 1.0, 0.5]
    assert window.previous_observation[0, 1:].tolist() == obs[0, :-1].tolist()
    assert window.episode_start[0].tolist() == [True, False, True, False]
    assert window.has_previous[0].all(dim=1).tolist() == [False, True, True, True]


def test_the_first_token_of_a_window_has_no_transition_before_it() -> None:
    model, window = agent(), tokens()
    first = {
        "previous_action": (window.previous_action + 1) % 4,
        "previous_reward": window.previous_reward + 5.0,
        "previous_observation": 4 - window.previous_observation,
    }
    only_first = {name: torch.cat([other[:, :1], getattr(window, name)[:, 1:]], dim=1) for name, other in first.items()}
    torch.testing.assert_close(model(replace(window, **only_first)), model(window), rtol=0, atol=0)


def test_an_episode_start_is_marked() -> None:
    model, window = agent(), tokens()
    assert (model(replace(window, episode_start=~window.episode_start)) != model(window)).any()


def test_masking_hides_parts_at_its_rate_and_never_the_present_observation() -> None:
    window = tokens(batch=200)
    masked = window.masked(0.3)
    hidden = (window.has_previous & ~masked.has_previous)[:, 1:].double().mean(dim=(0, 1))
    np.testing.assert_allclose(hidden, 0.3, atol=0.04)
    assert masked.observation is window.observation
    assert window.masked(0.0).has_previous.equal(window.has_previous)


def test_without_the_previous_observation_a_token_does_not_read_it() -> None:
    model, window = agent(previous_observation=False), tokens()
    other = replace(window, previous_observation=4 - window.previous_observation)
    torch.testing.assert_close(model(other), model(window), rtol=0, atol=0)


@pytest.mark.parametrize("coordinates", ["both", "embedding", "number"])
def test_coordinates_are_told_apart(coordinates: str) -> None:
    model, window = agent(coordinates=coordinates), tokens()
    swapped = window.observation.flip(-1)
    differs = (swapped != window.observation).any(dim=-1)
    assert ((model(replace(window, observation=swapped)) != model(window)).any(dim=-1) | ~differs).all()


SPACES = [
    gym.spaces.Discrete(7, start=-3),
    gym.spaces.MultiDiscrete([[2, 3], [4, 5]]),
    gym.spaces.MultiBinary(4),
    gym.spaces.Box(-2.0, 6.0, (3,), np.float32),
    gym.spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
    gym.spaces.Box(0, 255, (3, 50, 60), np.uint8),
    gym.spaces.Dict(image=gym.spaces.Box(0, 255, (8, 9, 1), np.uint8), place=gym.spaces.MultiDiscrete([3, 4])),
    gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.Dict(speed=gym.spaces.Box(-1.0, 1.0, (2,)))]),
]


def columns_of(space: gym.Space, *, batch: int = 2, time: int = CONTEXT) -> dict[str, torch.Tensor]:
    """Draw observations of a space as a store's columns."""
    space.seed(0)
    samples = [flatten("observation", space, space.sample()) for _ in range(batch * time)]
    stacked = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}
    return {name: column.unflatten(0, (batch, time)) for name, column in stacked.items()}


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_each_position_of_these_observation_spaces_is_seen(space: gym.Space) -> None:
    model, columns = agent(observation_space=space), columns_of(space)

    def logits(columns: dict[str, torch.Tensor]) -> torch.Tensor:
        encoded = model.encode(columns)
        action, reward = torch.zeros((2, CONTEXT), dtype=torch.int64), torch.zeros((2, CONTEXT))
        return model(window_tokens(observation=encoded, action=action, reward=reward, episode_start=reward > 0))

    before = logits(columns)
    assert before.shape == (2, CONTEXT, 4)
    assert before.isfinite().all()
    for name in columns:
        other = dict(columns, **{name: torch.cat([columns[name][:, :-1], columns[name][:, :1]], dim=1)})
        other[name][0, -1] = other[name][0, -2]
        after = logits(other)
        torch.testing.assert_close(after[:, :-1], before[:, :-1])
        assert (after[:, -1] != before[:, -1]).any()


def test_the_papers_image_encoder_takes_frames_that_its_blocks_do_not_shrink_to_nothing() -> None:
    frames = gym.spaces.Box(0, 255, (72, 96, 3), np.uint8)
    model = agent(observation_space=frames, image_encoder="paper")
    assert model.encode(columns_of(frames, batch=1, time=2)).shape == (1, 2, 16)
    with pytest.raises(InvalidValue) as caught:
        agent(observation_space=gym.spaces.Box(0, 255, (42, 64, 3), np.uint8), image_encoder="paper")
    assert str(caught.value) == (
        "observation space: the paper's image encoder expects sides of 43 pixels or more, got 42x64. "
        "Use image_encoder=small."
    )


def test_the_small_image_encoder_averages_cells_exactly() -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 74, 97, 3), np.uint8))
    encoder = SmallEncoder(gym.spaces.Box(0, 255, (74, 97, 3), np.uint8))
    assert encoder.cell == 3
    pooled = torch.nn.functional.avg_pool2d(frames[:, :72, :96].permute(0, 3, 1, 2).float(), 3) / 127.5 - 1.0
    torch.testing.assert_close(encoder._averages(frames), pooled)


def test_other_observation_spaces_are_refused_in_one_line() -> None:
    with pytest.raises(InvalidValue) as caught:
        agent(observation_space=gym.spaces.Text(4))
    assert str(caught.value).startswith("observation space: distillation expects Discrete, MultiDiscrete, MultiBinary")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"layout": "three"}, {"norm": "post"}, {"layout": "three", "norm": "post"}])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_every_layout_sees_what_came_before_and_nothing_after(settings: dict[str, str], positions: str) -> None:
    model, window = agent(positions=positions, **settings), tokens()
    before = model(window)
    for name in ("observation", "previous_action", "previous_reward"):
        changed = getattr(window, name).clone()
        changed[:, 6] = 3 - changed[:, 6] if name == "previous_action" else 4 - changed[:, 6]
        other = {name: changed}
        if name == "observation":
            other["previous_observation"] = changed.roll(1, dims=1)
        after = model(replace(window, **other))
        torch.testing.assert_close(after[:, :6], before[:, :6], rtol=0, atol=0)
        differs = (changed != getattr(window, name)).flatten(1).any(dim=1)
        assert (after[:, 6:] != before[:, 6:]).flatten(1).any(dim=1).equal(differs)


def test_three_tokens_a_transition_do_not_repeat_the_previous_observation() -> None:
    model, window = agent(layout="three"), tokens()
    assert model.embedding.previous_observation is None
    assert model.embedding(window).shape == (3, 3 * CONTEXT, 16)


def test_a_cache_takes_many_tokens_only_when_it_is_empty() -> None:
    model, window = agent(), tokens()
    cache = Cache(model.config, batch_size=3, context_length=CONTEXT, device=model.device)
    model(window.last(4), cache)
    with pytest.raises(AssertionError):
        model(window.last(4), cache)
