"""Watermaze: a platform hidden in a round pool, sought from the pictures of a swimmer's eye.

Laskin et al., "In-context Reinforcement Learning with Algorithm Distillation" (arXiv 2210.14215), after the water maze
of Morris; the paper has it from DeepMind Lab, this one has a ray-caster of its own (`raycaster.py`). As in the paper:
72 x 96 pixels, eight actions, 50 steps, a start at the centre, a reward of 1 on reaching the platform. The paper is
silent on the rest, and here:

- the platform pays once an episode, which goes on afterwards (the paper's 160 episodes are 8.3k steps long); with
  `ends_at_platform` it terminates there;
- the first heading is drawn anew for each episode, so that only what is seen tells where one swims; without
  `is_heading_random` it is east;
- platforms lie uniformly wherever all of one is in the pool and does not cover the start.

The environment is `Watermaze`, its batched twin `BatchedWatermaze`; they share the moves and the ray-caster alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Num, UInt8
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.generators import Generators
from historystore.tasks.platforms import Place, drawn_platform, parse_platform, random_return
from historystore.tasks.pool import (
    ACTIONS,
    HEADING_VECTORS,
    NUM_HEADINGS,
    drawn_path,
    is_on_platform,
    moved,
    ways_to_platform,
)
from historystore.tasks.protocol import Task
from historystore.tasks.raycaster import raycaster

Frame = UInt8[np.ndarray, "height width 3"]
SMALLEST_SIDE, LARGEST_SIDE = 8, 512


def _frame_space(height: int, width: int) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, (height, width, 3), np.uint8)


class Watermaze(gym.Env[Frame, np.int64]):
    """Swim from the centre of a pool to a platform that only the reward gives away.

    An observation is what the swimmer sees; the actions are forward, back, left, right, turn left, turn right, and
    forward with a turn to the left or right. Only Gymnasium's TimeLimit (part of `gymnasium.make`) truncates it.
    """

    metadata = {  # noqa: RUF012 - an instance variable to gym.Env's type
        "render_modes": ["rgb_array"],
        "render_fps": 8,
    }

    def __init__(
        self,
        platform: Sequence[float],
        *,
        height: int = 72,
        width: int = 96,
        ends_at_platform: bool = False,
        is_heading_random: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self.platform = parse_platform(platform)
        self.ends_at_platform = ends_at_platform
        self.is_heading_random = is_heading_random
        self.render_mode = render_mode
        self.observation_space = _frame_space(height, width)
        self.action_space = gym.spaces.Discrete(len(ACTIONS))
        self._raycaster = raycaster(height=height, width=width)
        self._start_episode(0)

    def _start_episode(self, heading: int) -> None:
        self._position = np.zeros((1, 2))
        self._heading = np.array([heading], dtype=np.int64)
        self._was_rewarded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, dict[str, Any]]:
        """Return to the centre, and look in a random direction."""
        super().reset(seed=seed, options=options)
        self._start_episode(int(self.np_random.integers(NUM_HEADINGS)) if self.is_heading_random else 0)
        return self._seen(), {}

    def step(self, action: np.int64 | int) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Move, and be rewarded on the first arrival."""
        self._position, self._heading = moved(self._position, self._heading, np.array([action]))
        is_there = bool(is_on_platform(self._position, np.array([self.platform]))[0])
        reward = float(is_there and not self._was_rewarded)
        self._was_rewarded = self._was_rewarded or is_there
        return self._seen(), reward, self.ends_at_platform and is_there, False, {}

    def render(self) -> Frame | None:
        """Return what the swimmer sees."""
        return None if self.render_mode is None else self._seen()

    def _seen(self) -> Frame:
        frame: Frame = self._raycaster.frames(self._position, self._heading)[0]
        return frame


class BatchedWatermaze:
    """Many pools, stepped and drawn by array operations."""

    def __init__(self, platforms: Sequence[Place], *, family: "WatermazeFamily") -> None:
        self.num_envs = len(platforms)
        self.tasks: tuple[Task, ...] = tuple({"platform": [x, y]} for x, y in platforms)
        self.observation_space: gym.Space[Any] = family.observation_space
        self.action_space: gym.Space[Any] = family.action_space
        self.source_observation_space: gym.Space[Any] | None = (
            gym.spaces.Box(-1.0, 1.0, (5,), np.float32) if family.source == "state" else None
        )
        self._family = family
        self._raycaster = raycaster(height=family.height, width=family.width)
        self._platforms = np.array(platforms, dtype=np.float64).reshape(self.num_envs, 2)
        self._positions = np.zeros((self.num_envs, 2))
        self._headings = np.zeros(self.num_envs, dtype=np.int64)
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._was_rewarded = np.zeros(self.num_envs, dtype=bool)
        self._generators = Generators(self.num_envs)

    def source_observation(self) -> Float32[np.ndarray, "num_envs 5"] | UInt8[np.ndarray, "num_envs height width 3"]:
        """Return x, y, cosine and sine of the heading, and whether there was a reward; without a view, the frames."""
        if self.source_observation_space is None:
            return self._seen()
        columns = [self._positions, HEADING_VECTORS[self._headings], self._was_rewarded[:, None]]
        seen: Float32[np.ndarray, "num_envs 5"] = np.concatenate(columns, axis=1, dtype=np.float32)
        return seen

    def expert_actions(self) -> Int64[np.ndarray, " num_envs"]:
        """Return the actions that swim to the platform, knowing where it is."""
        return ways_to_platform(self._positions, self._headings, self._platforms)

    def state(self) -> dict[str, np.ndarray]:
        """Return where everybody is in the pool and in the episode, and the generators."""
        return {
            "positions": self._positions.copy(),
            "headings": self._headings.copy(),
            "elapsed": self._elapsed.copy(),
            "was_rewarded": self._was_rewarded.copy(),
            "generators": self._generators.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self._positions = state["positions"].astype(np.float64)
        self._headings = state["headings"].astype(np.int64)
        self._elapsed = state["elapsed"].astype(np.int64)
        self._was_rewarded = state["was_rewarded"].astype(bool)
        self._generators.restore(state["generators"])

    def reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None = None, *, seeds: Sequence[int | None] | None = None
    ) -> UInt8[np.ndarray, "num_envs height width 3"]:
        """Put the swimmers of `mask` (all without one) back to the centre, each looking in a direction of its own."""
        for index, generator in self._generators.of_reset(mask, seeds):
            self._headings[index] = generator.integers(NUM_HEADINGS) if self._family.is_heading_random else 0
        where = slice(None) if mask is None else mask
        self._positions[where] = 0.0
        self._elapsed[where] = 0
        self._was_rewarded[where] = False
        return self._seen()

    def step(
        self, actions: Int[np.ndarray, " num_envs"]
    ) -> tuple[
        UInt8[np.ndarray, "num_envs height width 3"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Move every swimmer; those that have swum 50 steps are truncated."""
        self._positions, self._headings = moved(self._positions, self._headings, actions)
        is_there = is_on_platform(self._positions, self._platforms)
        rewards = (is_there & ~self._was_rewarded).astype(np.float32)
        self._was_rewarded |= is_there
        self._elapsed += 1
        terminated = is_there if self._family.ends_at_platform else np.zeros(self.num_envs, dtype=bool)
        return self._seen(), rewards, terminated, self._elapsed >= self._family.max_episode_steps

    def _seen(self) -> UInt8[np.ndarray, "num_envs height width 3"]:
        return self._raycaster.frames(self._positions, self._headings)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermazeFamily:
    """One place of the platform a task."""

    arguments: ClassVar[tuple[str, ...]] = ("ends_at_platform", "height", "is_heading_random", "source", "width")
    is_batched: ClassVar[bool] = True
    num_tasks: ClassVar[int] = 0
    max_episode_steps: ClassVar[int] = 50

    name: str
    version: int
    env_id: str
    height: int = 72
    width: int = 96
    ends_at_platform: bool = False
    is_heading_random: bool = True
    source: str = "state"
    """What the source learner sees: "pixels", or "state" (see `BatchedWatermaze.source_observation`), a thousandth of
    the numbers. The pixels are the observation either way."""
    args: dict[str, JsonValue] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.source not in ("pixels", "state"):
            raise InvalidValue(f"--env-arg source: expected pixels or state, got {self.source!r}. Pick one of the two.")
        for side, value in (("height", self.height), ("width", self.width)):
            if not SMALLEST_SIDE <= value <= LARGEST_SIDE or value % 2:
                raise InvalidValue(
                    f"--env-arg {side}: expected an even number of pixels from {SMALLEST_SIDE} to {LARGEST_SIDE}, "
                    f"got {value}. Change the value."
                )

    @property
    def observation_space(self) -> gym.spaces.Box:
        """What the swimmer sees: height, width, red-green-blue."""
        return _frame_space(self.height, self.width)

    @property
    def action_space(self) -> gym.spaces.Discrete:
        """The eight of `pool.ACTIONS`."""
        return gym.spaces.Discrete(len(ACTIONS))

    def tasks(self) -> list[Task]:
        """List nothing: there is a platform for every seed."""
        return []

    def task_of_seed(self, seed: int) -> Task:
        """Return the platform of a learner's seed."""
        return {"platform": list(drawn_platform(f"{self.name}/{self.version}/{seed}"))}

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the registered environment."""
        return gym.make(
            self.env_id,
            platform=_platform(task),
            height=self.height,
            width=self.width,
            ends_at_platform=self.ends_at_platform,
            is_heading_random=self.is_heading_random,
        )

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedWatermaze:
        """Make one pool for each entry of `tasks`, stepped together."""
        return BatchedWatermaze([_platform(task) for task in tasks], family=self)

    def best_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return 1: every platform is reached within 11 of the 50 steps."""
        _platform(task)
        return 1.0

    def random_return(self, task: Mapping[str, JsonValue]) -> float | None:
        """Return the measured share of random episodes that reach the platform; None for a fixed first heading."""
        platform = _platform(task)
        return random_return(platform) if self.is_heading_random else None

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: UInt8[np.ndarray, "time height width 3"],
        actions: Int[np.ndarray, " time"],
        rewards: Num[np.ndarray, " time"],
    ) -> str:
        """Render one episode from above: the first frame gives its heading away, the actions all the rest."""
        platform = _platform(task)
        if not len(actions):
            return "(an episode without a step)"
        centres = raycaster(height=self.height, width=self.width).frames(
            np.zeros((NUM_HEADINGS, 2)), np.arange(NUM_HEADINGS)
        )
        headings = np.flatnonzero((centres == observations[0]).all(axis=(1, 2, 3)))
        if not len(headings):
            return "(an episode whose first frame was not seen from the centre)"
        places, heading = [np.zeros((1, 2))], headings[:1]
        for action in actions:
            place, heading = moved(places[-1], heading, np.array([action]))
            places.append(place)
        return drawn_path(np.concatenate(places), actions, rewards, platform=platform)


def _platform(task: Mapping[str, JsonValue]) -> Place:
    if set(task) != {"platform"}:
        raise InvalidValue(f"task: expected one key, 'platform', got {sorted(task)}. Give {{'platform': [x, y]}}.")
    return parse_platform(task["platform"])


FAMILY = WatermazeFamily(name="watermaze", version=1, env_id="historystore/Watermaze-v0")
