"""Actions as choices: foretold, drawn and given back as the environment takes them."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from test_distill_training import config
from toy_histories import write_targets

from distill import load_run, train
from distill.actions import PADDING, ActionCode, OrderedHead
from distill.context import Context
from historystore.errors import InvalidValue

SPACES = [
    gym.spaces.Discrete(4, start=-2),
    gym.spaces.MultiDiscrete([3, 2, 5], start=[1, 0, -4]),
    gym.spaces.MultiDiscrete([[2, 3], [4, 5]]),
    gym.spaces.MultiBinary([2, 3]),
    gym.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 0.5]), dtype=np.float32),
    gym.spaces.Box(-1.0, 1.0, (), np.float64),
    gym.spaces.Box(-3, 4, (2,), np.int16),
    gym.spaces.Box(0, 255, (2,), np.uint8),
]


def sampled(space: gym.Space, count: int = 50) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(count)])


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_an_action_comes_back_from_its_choices_as_near_as_they_lie(space: gym.Space) -> None:
    code, actions = ActionCode.of(space, bins=21), sampled(space)
    choices = code.choices(torch.from_numpy(actions)[:, None])[:, 0]
    assert choices.shape == actions.shape
    assert (choices >= 0).all()
    assert (choices.reshape(50, -1) < torch.tensor(code.counts)).all()
    back = code.actions(choices)
    assert back.dtype == space.dtype
    assert all(action in space for action in back)
    is_coarse = isinstance(space, gym.spaces.Box) and code.counts == (21,) * len(code.counts)
    spacing = (space.high.astype(float) - space.low) / 20 if is_coarse else 0.0
    margin = 0.5 * is_coarse if np.issubdtype(space.dtype, np.integer) else 1e-6
    assert (np.abs(back.astype(float) - actions) <= np.asarray(spacing) / 2 + margin).all()


def test_the_bounds_of_a_box_are_among_its_choices_and_what_lies_beyond_is_nearest_to_them() -> None:
    space = gym.spaces.Box(-0.1, 0.7, (1,), np.float32)
    code = ActionCode.of(space, bins=8)
    choices = code.choices(torch.tensor([[[-0.1], [0.7], [9.0], [-9.0]]]))
    assert choices.flatten().tolist() == [0, 7, 7, 0]
    assert code.actions(choices[0, :2]).tolist() == [space.low.tolist(), space.high.tolist()]


def test_a_box_of_few_whole_numbers_has_a_choice_for_each() -> None:
    code = ActionCode.of(gym.spaces.Box(-3, 4, (2,), np.int16), bins=41)
    assert code.counts == (8, 8)
    every = torch.arange(8)[:, None].expand(8, 2)
    assert code.actions(every)[:, 0].tolist() == list(range(-3, 5))


def test_the_loss_is_the_sum_over_choices_of_what_is_not_padding() -> None:
    code = ActionCode.of(gym.spaces.MultiDiscrete([3, 2]), bins=2)
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    choice = torch.randint(2, (2, 4, 2), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True, True, False, False], [True, True, True, False]])
    log_p = logits[..., :3].log_softmax(-1), logits[..., 3:].log_softmax(-1)
    each = -sum(part.gather(-1, choice[..., i, None])[..., 0] for i, part in enumerate(log_p))
    target = code.targets(choice, mask)
    assert (target[~mask] == PADDING).all()
    torch.testing.assert_close(code.loss(logits, target), each[mask].mean())
    uniform = -sum(part.mean(-1) for part in log_p)
    smoothed = (0.8 * each + 0.2 * uniform)[mask].mean()
    torch.testing.assert_close(code.loss(logits, target, smoothing=0.2), smoothed)


def test_smoothing_leaves_continuous_actions_alone() -> None:
    code = ActionCode.of(gym.spaces.Box(-1, 1, (2,)), bins=5)
    logits, target = torch.randn(1, 3, 10), torch.zeros((1, 3, 2), dtype=torch.int64)
    assert code.loss(logits, target, smoothing=0.2) == code.loss(logits, target)


def test_choices_are_drawn_in_proportion_and_apart() -> None:
    code = ActionCode.of(gym.spaces.MultiDiscrete([2, 3]), bins=2)
    logits = torch.log(torch.tensor([0.25, 0.75, 0.1, 0.2, 0.7])).expand(20_000, 5)
    drawn = code.sample(logits, torch.Generator().manual_seed(0)).numpy()
    shares = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=(2, 3))[0] / 20_000
    np.testing.assert_allclose(shares, np.outer([0.25, 0.75], [0.1, 0.2, 0.7]), atol=0.02)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_what_is_drawn_is_an_action_of_the_space(space: gym.Space) -> None:
    code = ActionCode.of(space, bins=7)
    drawn = code.actions(code.sample(torch.zeros(30, sum(code.counts)), torch.Generator().manual_seed(0)))
    assert all(action in space for action in drawn)


def test_a_box_without_bounds_and_other_spaces_are_refused_in_one_line() -> None:
    with pytest.raises(InvalidValue) as caught:
        ActionCode.of(gym.spaces.Box(-np.inf, np.inf, (2,)), bins=7)
    assert str(caught.value) == (
        "action space: distillation expects a Box with bounds, got Box(-inf, inf, (2,), float32). "
        "Record an environment whose actions are clipped or rescaled to bounds."
    )
    with pytest.raises(InvalidValue) as caught:
        ActionCode.of(gym.spaces.Dict(a=gym.spaces.Discrete(2)), bins=7)
    assert str(caught.value) == (
        "action space: distillation expects Discrete, MultiDiscrete, MultiBinary or Box, got Dict('a': Discrete(2)). "
        "Record an environment that is wrapped to have one of these."
    )


def test_a_continuous_action_that_follows_from_what_was_seen_is_foretold_in_context(tmp_path: Path) -> None:
    """On targets never trained on; free logits alone are off by 0.4 after as many updates, and chance by 1.2."""
    settings = {"width": 32, "feed_forward": 64, "batch_size": 32, "updates": 200, "token_masking": 0.0}
    list(train(write_targets(tmp_path / "store"), tmp_path / "run", config(**settings)))
    target = np.random.default_rng(1).uniform(-1.9, 1.9, 64)
    agent = load_run(tmp_path / "run").load_agent()
    context, generator = Context(agent, num_envs=64), torch.Generator().manual_seed(0)
    errors = []
    for step in range(15):
        with torch.inference_mode():
            choice = agent.actions.sample(context.logits(np.zeros(64, np.int64), np.full(64, step % 5 == 0)), generator)
            action = agent.actions.actions(choice)[:, 0]
            context.complete(choice, (target - action).astype(np.float32))
        errors.append(np.abs(target - action).mean())
    tries, answers = np.array(errors[::5]), np.array([error for step, error in enumerate(errors) if step % 5 > 1])
    assert tries.min() > 0.8
    assert answers.mean() < 0.12


def test_an_ordered_heads_logits_are_a_gaussian_over_places_and_free_ones() -> None:
    head = OrderedHead(8, [3, 5])
    x = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    raw = torch.nn.functional.linear(x, head.weight, head.bias)
    logits = head(x)
    mean, sharpness = raw[..., 9], raw[..., 11].clamp(max=np.log(8))
    expected = raw[..., 3:8] - 0.5 * ((torch.linspace(-1, 1, 5) - mean[..., None]) * sharpness.exp()[..., None]) ** 2
    torch.testing.assert_close(logits[..., 3:], expected)
    assert logits.shape == (2, 4, 8)
