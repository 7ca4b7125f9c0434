import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from historystore.errors import InvalidValue
from historystore.tasks import BatchedEnv, Family, Task, families, family
from historystore.tasks.pool import (
    ACTIONS,
    NUM_HEADINGS,
    PLATFORM_RADIUS,
    STROKE,
    is_on_platform,
    moved,
    ways_to_platform,
)
from historystore.tasks.raycaster import raycaster
from historystore.tasks.scenery import pool_wall

FORWARD, BACK, LEFT, RIGHT, TURN_LEFT, TURN_RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(8)
EAST: Task = {"platform": [0.5, 0.0]}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"ends_at_platform": True},
    {"is_heading_random": False, "height": 24, "width": 32},
    {"source": "pixels"},
]


def some_tasks(num_tasks: int) -> list[Task]:
    return [family("watermaze").task_of_seed(seed) for seed in range(num_tasks)]


def lockstep_differences(fam: Family, batched: BatchedEnv, tasks: list[Task], *, num_steps: int) -> int:
    """Step both with random actions, half of them the expert's, and count the environments that ever differed."""
    envs = [fam.make(task) for task in tasks]
    seeds = [100 + index for index in range(len(envs))]
    first = np.array([env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)])
    differs = (first != batched.reset(seeds=seeds)).any(axis=(1, 2, 3))
    rng = np.random.default_rng(1)
    for _ in range(num_steps):
        is_expert = rng.random(len(envs)) < 0.5
        actions = np.where(is_expert, batched.expert_actions(), rng.integers(8, size=len(envs)))
        obs, reward, terminated, truncated = batched.step(actions)
        for index, env in enumerate(envs):
            one = env.step(int(actions[index]))
            differs[index] |= not np.array_equal(one[0], obs[index])
            differs[index] |= one[1:4] != (reward[index], terminated[index], truncated[index])
        done = terminated | truncated
        if done.any():
            obs = batched.reset(done)
            for index in np.flatnonzero(done):
                differs[index] |= not np.array_equal(envs[index].reset()[0], obs[index])
    return int(differs.sum())


def test_the_environment_passes_gymnasiums_checker() -> None:
    env = gym.make("historystore/Watermaze-v0", platform=(0.3, -0.2), render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("args", VARIANTS)
def test_the_twin_and_the_environment_never_differ(args: dict[str, Any]) -> None:
    fam = family("watermaze", args)
    tasks = some_tasks(6)
    assert lockstep_differences(fam, fam.make_batched(tasks), tasks, num_steps=130) == 0


def test_the_lockstep_comparison_finds_a_twin_of_another_platform_and_one_of_other_headings() -> None:
    fam, tasks = family("watermaze"), some_tasks(2)
    moved_tasks: list[Task] = [{"platform": [-x for x in task["platform"]]} for task in tasks]
    assert lockstep_differences(fam, fam.make_batched(moved_tasks), tasks, num_steps=60) == 2
    fixed = family("watermaze", {"is_heading_random": False})
    assert lockstep_differences(fam, fixed.make_batched(tasks), tasks, num_steps=1) == 2


def test_a_frame_is_the_same_bits_whatever_is_drawn_with_it() -> None:
    rng = np.random.default_rng(0)
    distance, angle = np.sqrt(rng.random(150)) * 0.9, rng.random(150) * 2 * np.pi
    positions = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    headings = rng.integers(NUM_HEADINGS, size=150)
    eye = raycaster(height=72, width=96)
    together = eye.frames(positions, headings)
    for index in range(150):
        assert np.array_equal(eye.frames(positions[index : index + 1], headings[index : index + 1])[0], together[index])
    for batch in (2, 7, 31, 33):
        assert np.array_equal(eye.frames(positions[:batch], headings[:batch]), together[:batch])


def test_every_ray_meets_the_paint_that_stands_where_it_ends() -> None:
    paint = pool_wall().colours[:, 13]  # half-way up: the row below the horizon is there, from wherever it is seen
    rng = np.random.default_rng(2)
    positions, headings = rng.uniform(-0.6, 0.6, (200, 2)), rng.integers(NUM_HEADINGS, size=200)
    rows = raycaster(height=72, width=96).frames(positions, headings)[:, 36]
    angles = (headings * 2 * np.pi / NUM_HEADINGS)[:, None] + np.arctan((47.5 - np.arange(96)) / 48)
    rays = np.exp(1j * angles)
    eyes = (positions @ np.array([1, 1j]))[:, None]
    along = (eyes * rays.conj()).real
    ends = eyes + rays * (np.sqrt(along**2 + 1 - abs(eyes) ** 2) - along)
    met = paint[(np.angle(ends) / (2 * np.pi) % 1 * len(paint)).astype(int)]
    assert (rows == met).all(axis=2).mean() > 0.99  # the rest is a pixel's breadth from another paint


def test_no_two_headings_or_places_look_alike() -> None:
    steps = np.linspace(-0.6, 0.6, 13)
    places = np.array([(x, y) for x in steps for y in steps])
    eye = raycaster(height=72, width=96)
    frames = [eye.frames(places, np.full(len(places), heading)) for heading in range(NUM_HEADINGS)]
    assert len({frame.tobytes() for frame in np.concatenate(frames)}) == len(places) * NUM_HEADINGS


def test_the_platform_is_never_seen() -> None:
    fam = family("watermaze")
    twin = fam.make_batched(some_tasks(5))
    frames = [twin.reset(seeds=[3] * 5)]
    frames += [twin.step(np.full(5, action))[0] for action in range(8)]
    assert all((frame == frame[0]).all() for frame in frames)


def test_what_is_to_the_left_is_seen_on_the_left_and_comes_nearer_when_swum_to() -> None:
    eye = raycaster(height=72, width=96)
    ahead, turned = eye.frames(np.zeros((2, 2)), np.array([0, 1]))
    # a turn to the left by 22.5 degrees moves what is in the middle tan(22.5) * 48 = 20 columns to the right
    assert np.array_equal(ahead[36:42, 46:50], turned[36:42, 66:70])
    wall_heights = [
        int((frame[:, 48] == (205, 60, 50)).all(axis=1).sum())
        for frame in eye.frames(np.array([[0.0, 0.01], [0.5, 0.01], [0.8, 0.01]]), np.zeros(3, dtype=np.int64))
    ]
    assert wall_heights == sorted(wall_heights)
    assert wall_heights[0] * 2 <= wall_heights[1] * 1.2 <= wall_heights[2]


@pytest.mark.parametrize(
    ("action", "place", "heading"),
    [
        (FORWARD, (0.1, 0.0), 0),
        (BACK, (-0.1, 0.0), 0),
        (LEFT, (0.0, 0.1), 0),
        (RIGHT, (0.0, -0.1), 0),
        (TURN_LEFT, (0.0, 0.0), 1),
        (TURN_RIGHT, (0.0, 0.0), 15),
        (FORWARD_LEFT, (0.092388, 0.038268), 1),
        (FORWARD_RIGHT, (0.092388, -0.038268), 15),
    ],
)
def test_an_action_does_what_its_name_says(action: int, place: tuple[float, float], heading: int) -> None:
    positions, headings = moved(np.zeros((1, 2)), np.array([0]), np.array([action]))
    assert positions[0] == pytest.approx(place, abs=1e-6)
    assert (headings.tolist(), len(ACTIONS)) == ([heading], 8)


def test_the_wall_stops_the_swimmer_who_slides_along_it() -> None:
    twin = family("watermaze", {"is_heading_random": False}).make_batched([EAST])
    twin.reset()
    places = []
    for action in [FORWARD] * 12 + [LEFT] * 3:
        twin.step(np.array([action]))
        places.append(twin.source_observation()[0, :2])
    assert places[8] == pytest.approx([0.9, 0.0], abs=1e-6)
    assert places[11] == pytest.approx([0.9, 0.0], abs=1e-6)
    assert np.hypot(*places[14]) == pytest.approx(0.9, abs=1e-6)
    assert places[14][1] > 0.25


def test_the_platform_pays_once_an_episode_which_goes_on_or_ends_there() -> None:
    for ends, num_steps in ((False, 50), (True, 4)):
        args = {"ends_at_platform": ends, "is_heading_random": False}
        env = family("watermaze", args).make(EAST)
        for _ in range(2):
            env.reset()
            steps = [env.step(FORWARD)]
            while not (steps[-1][2] or steps[-1][3]):
                steps.append(env.step(FORWARD if len(steps) < 6 else BACK if len(steps) < 9 else TURN_LEFT))
            assert [index for index, step in enumerate(steps) if step[1]] == [3]
            assert (len(steps), steps[-1][2], steps[-1][3]) == (num_steps, ends, not ends)


def places_of(tasks: list[Task]) -> np.ndarray:
    return np.array([task["platform"] for task in tasks])


def test_the_way_to_every_platform_takes_eleven_steps_at_most() -> None:
    platforms = np.repeat(places_of(some_tasks(1000)), NUM_HEADINGS, axis=0)
    positions, headings = np.zeros_like(platforms), np.tile(np.arange(NUM_HEADINGS), 1000)
    arrival = np.zeros(len(platforms), dtype=int)
    for step in range(1, 12):
        positions, headings = moved(positions, headings, ways_to_platform(positions, headings, platforms))
        arrival[is_on_platform(positions, platforms) & (arrival == 0)] = step
    straight = np.ceil(np.hypot(*platforms.T) / STROKE - PLATFORM_RADIUS / STROKE)
    assert (arrival.min(), arrival.max()) == (1, 11)
    assert (arrival.mean(), straight.mean()) == pytest.approx((5.47, 4.82), abs=0.1)


def test_the_twins_expert_earns_the_best_return_on_every_task() -> None:
    fam, tasks = family("watermaze", {"height": 8, "width": 8}), some_tasks(40)
    twin = fam.make_batched(tasks)
    twin.reset(seeds=list(range(40)))
    total = sum(twin.step(twin.expert_actions())[1] for _ in range(50))
    assert total.tolist() == [fam.best_return(task) for task in tasks] == [1.0] * 40


def test_the_random_return_is_what_random_play_earns() -> None:
    fam, tasks, num_episodes = family("watermaze"), some_tasks(60), 8000
    rng, platforms = np.random.default_rng(0), places_of(tasks)
    positions, headings = np.zeros((num_episodes, 2)), rng.integers(NUM_HEADINGS, size=num_episodes)
    was_there = np.zeros((len(tasks), num_episodes), dtype=bool)
    for _ in range(fam.max_episode_steps):
        positions, headings = moved(positions, headings, rng.integers(8, size=num_episodes))
        was_there |= np.hypot(*(positions[None] - platforms[:, None]).transpose(2, 0, 1)) <= PLATFORM_RADIUS
    played, said = was_there.mean(axis=1), np.array([fam.random_return(task) for task in tasks])
    assert abs(played - said).max() < 0.03
    assert played.mean() == pytest.approx(said.mean(), abs=0.005)
    assert family("watermaze", {"is_heading_random": False}).random_return(tasks[0]) is None


def test_the_platforms_of_seeds_cover_the_pool_and_never_the_start_and_never_change() -> None:
    fam = family("watermaze")
    places = np.array([fam.task_of_seed(seed)["platform"] for seed in range(-500, 2500)])
    distance = np.hypot(*places.T)
    assert PLATFORM_RADIUS - 2e-4 < distance.min() < 0.17
    assert 0.84 < distance.max() <= 0.85
    assert np.mean(distance < 0.5) == pytest.approx((0.5**2 - 0.15**2) / (0.85**2 - 0.15**2), abs=0.03)
    assert abs(places.mean(axis=0)).max() < 0.04
    assert (fam.num_tasks, fam.tasks()) == (0, [])
    assert [fam.task_of_seed(seed)["platform"] for seed in range(3)] == [
        [0.5087, 0.5093],
        [0.3286, 0.3792],
        [-0.3015, 0.1437],
    ]


def test_a_reset_of_some_leaves_the_others_in_their_episode() -> None:
    twin = family("watermaze").make_batched([EAST] * 3)
    twin.reset(seeds=[1, 2, 3])
    obs, *_ = twin.step(np.full(3, FORWARD))
    after = twin.reset(np.array([False, True, False]))
    assert np.array_equal(after[[0, 2]], obs[[0, 2]])
    assert not np.array_equal(after[1], obs[1])
    assert twin.source_observation()[1, :2].tolist() == [0.0, 0.0]
    for _ in range(49):
        *_, truncated = twin.step(np.full(3, TURN_LEFT))
    assert truncated.tolist() == [True, False, True]


def test_arrays_handed_out_never_change_afterwards() -> None:
    twin = family("watermaze").make_batched([EAST] * 2)
    handed = [twin.reset(seeds=[1, 2]), twin.source_observation(), *twin.state().values()]
    before = [array.copy() for array in handed]
    twin.step(np.array([FORWARD_LEFT, FORWARD_RIGHT]))
    handed += twin.state().values()
    before += [array.copy() for array in twin.state().values()]
    twin.reset(np.array([True, False]))
    assert all(np.array_equal(now, then) for now, then in zip(handed, before, strict=True))


def test_a_restored_twin_goes_on_exactly_through_the_next_episodes() -> None:
    fam, tasks = family("watermaze", {"height": 24, "width": 32}), some_tasks(3)
    rng = np.random.default_rng(0)
    actions = rng.integers(8, size=(140, 3))

    def played(twin: BatchedEnv, actions: np.ndarray) -> list[np.ndarray]:
        seen = []
        for row in actions:
            obs, reward, terminated, truncated = twin.step(row)
            if (terminated | truncated).any():
                obs = twin.reset(terminated | truncated)
            seen += [obs, reward, truncated]
        return seen

    first = fam.make_batched(tasks)
    first.reset(seeds=[5, None, 7])
    played(first, actions[:70])
    state = first.state()
    second = fam.make_batched(tasks)
    second.restore(state)
    rest = played(first, actions[70:])
    assert all(np.array_equal(*pair) for pair in zip(rest, played(second, actions[70:]), strict=True))
    assert all(array.dtype.kind in "biuf" for array in state.values())


def test_the_source_sees_place_heading_and_whether_it_was_rewarded() -> None:
    twin = family("watermaze", {"is_heading_random": False}).make_batched([EAST])
    obs = twin.reset()
    assert obs.shape == (1, 72, 96, 3)
    assert twin.source_observation().tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]
    for _ in range(4):
        twin.step(np.array([FORWARD]))
    twin.step(np.array([TURN_LEFT]))
    seen = twin.source_observation()
    assert twin.source_observation_space.contains(seen[0])
    assert seen[0] == pytest.approx([0.4, 0.0, np.cos(np.pi / 8), np.sin(np.pi / 8), 1.0], abs=1e-6)
    pixels = family("watermaze", {"source": "pixels"}).make_batched([EAST])
    assert pixels.source_observation_space is None
    assert np.array_equal(pixels.reset(seeds=[0]), pixels.source_observation())


def test_an_episode_is_drawn_from_above_from_its_first_frame_and_its_actions() -> None:
    fam = family("watermaze", {"height": 24, "width": 32})
    env = fam.make({"platform": [0.3, 0.4]})
    frames, rewards = [env.reset(seed=3)[0]], []
    actions = [FORWARD, FORWARD_LEFT, FORWARD, LEFT, TURN_RIGHT, BACK]
    for action in actions:
        frame, reward, *_ = env.step(action)
        frames.append(frame)
        rewards.append(reward)
    drawing = fam.draw_episode(
        {"platform": [0.3, 0.4]}, np.array(frames[:-1]), np.array(actions), np.array(rewards, dtype=np.float32)
    )
    assert drawing.splitlines()[4:14] == [
        "          ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·",
        "          ·   ·   ·   ·   ·   ·   ·   ·   ·   ·  [ ] [ ] [ ]  ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·  [ ] [ ] [ ]  ·   ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·  [ ] [ ] [ ]  ·   ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·",
        "  ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   0   ·   ·   ·   ·   ·   ·   ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   1   ·   6   ·   ·   ·   ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   2   ·   4   ·   ·   ·   ·   ·   ·   ·",
        "      ·   ·   ·   ·   ·   ·   ·   ·   ·   ·   3   ·   ·   ·   ·   ·   ·   ·   ·",
    ]
    assert drawing.splitlines()[-2:] == ["actions  ↑↖↑←↷↓", "rewards"]


def test_an_episode_cut_at_its_start_is_not_drawn() -> None:
    fam = family("watermaze", {"height": 24, "width": 32})
    env = fam.make(EAST)
    env.reset(seed=0)
    frames = np.array([env.step(FORWARD)[0] for _ in range(3)])
    actions, rewards = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.float32)
    assert fam.draw_episode(EAST, frames, actions, rewards) == (
        "(an episode whose first frame was not seen from the centre)"
    )
    assert fam.draw_episode(EAST, frames[:0], actions[:0], rewards[:0]) == "(an episode without a step)"


@pytest.mark.parametrize("platform", [[0.9, 0.0], [0.5], "ab", [True, 0.2], None, [float("nan"), 0.0]])
def test_a_platform_outside_the_pool_is_refused(platform: object) -> None:
    message = (
        f"platform: expected two numbers (x, y) no farther than 0.85 from (0, 0), got {platform!r}. Pick another place."
    )
    for attempt in (family("watermaze").make, lambda task: family("watermaze").make_batched([task])):
        with pytest.raises(InvalidValue) as caught:
            attempt({"platform": platform})
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"source": "xy"}, "--env-arg source: expected pixels or state, got 'xy'. Pick one of the two."),
        (
            {"height": 7},
            "--env-arg height: expected an even number of pixels from 8 to 512, got 7. Change the value.",
        ),
        (
            {"width": 33},
            "--env-arg width: expected an even number of pixels from 8 to 512, got 33. Change the value.",
        ),
    ],
)
def test_an_argument_that_no_pool_has_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        family("watermaze", args)
    assert str(caught.value) == message


def test_a_task_with_another_key_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        family("watermaze").best_return({"goal": [1, 2]})
    assert str(caught.value) == "task: expected one key, 'platform', got ['goal']. Give {'platform': [x, y]}."


def test_what_the_family_says_of_itself_is_what_its_environment_is() -> None:
    fam = family("watermaze", {"height": 48, "width": 64, "ends_at_platform": True})
    env = fam.make(EAST)
    assert "watermaze" in families()
    assert (fam.env_id, fam.max_episode_steps) == (env.spec.id, env.spec.max_episode_steps)
    assert (env.observation_space, env.action_space) == (fam.observation_space, fam.action_space)
    assert fam.args == {"ends_at_platform": True, "height": 48, "width": 64}
    assert family("watermaze").observation_space.shape == (72, 96, 3)
