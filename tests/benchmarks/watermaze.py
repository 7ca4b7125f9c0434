"""Figures and the picture of Watermaze: `python tests/benchmarks/watermaze.py random | speed | picture FILE`.

- random: the share of uniformly random episodes that reach a platform, by its distance from the centre; the table of
  `historystore/tasks/platforms.py`. 200,000 episodes, each held against the sixteen platforms that a turn of the pool
  by one heading makes of one; the largest standard error, as if the sixteen were one, is printed below.
- speed: steps a second of the batched twin, and frames a second of the drawing alone, both in processor time.
- picture: what the swimmer sees from twelve places.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np

from historystore import tasks
from historystore.tasks.pool import HEADING_VECTORS, NUM_HEADINGS, is_on_platform, moved
from historystore.tasks.raycaster import raycaster

NUM_EPISODES, CHUNK, SEED = 200_000, 20_000, 0
DISTANCES = [0.0, 0.05, 0.1, 0.15, 0.16, 0.17, 0.18, 0.19, 0.2, 0.21, 0.22, 0.23, 0.24, 0.25, 0.275, 0.3, 0.35]
DISTANCES += [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85]
PLACES = [(0, 0, 0), (0, 0, 4), (0, 0, 8), (0, 0, 12), (0.8, 0, 8), (0.5, 0.5, 4), (-0.6, 0.3, 9), (-0.8, 0, 1)]
PLACES += [(0, 0.6, 4), (0, -0.85, 12), (0.3, -0.4, 6), (0.3, 0.4, 10)]


def random_returns(*, angle: float) -> np.ndarray:
    """Return the share of random episodes that reach a platform, for each distance, at an angle from a heading."""
    rng = np.random.default_rng(SEED)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    directions = HEADING_VECTORS @ turn.T
    reached = np.zeros(len(DISTANCES))
    for _ in range(NUM_EPISODES // CHUNK):
        positions, headings = np.zeros((CHUNK, 2)), rng.integers(NUM_HEADINGS, size=CHUNK)
        has_reached = np.zeros((len(DISTANCES), NUM_HEADINGS, CHUNK), dtype=bool)
        for _ in range(tasks.family("watermaze").max_episode_steps):
            positions, headings = moved(positions, headings, rng.integers(8, size=CHUNK))
            for index, distance in enumerate(DISTANCES):
                for sector, direction in enumerate(directions):
                    has_reached[index, sector] |= is_on_platform(positions, (distance * direction)[None])
        reached += has_reached.mean(axis=(1, 2)) * CHUNK
    return reached / NUM_EPISODES


def print_random() -> None:
    """Print the table, and how far it is from the one half-way between two headings."""
    along, between = (random_returns(angle=angle) for angle in (0.0, np.pi / NUM_HEADINGS))
    mean = (along + between) / 2
    for distance, *shares in zip(DISTANCES, mean, along, between, strict=True):
        print(f"({distance}, {shares[0]:.4f}),", "  along a heading, between two: {1:.4f} {2:.4f}".format(*shares))
    print(f"standard error: at most {np.sqrt(mean * (1 - mean) / NUM_EPISODES).max():.4f}")


def rate(call: Callable[[], object], *, frames: int) -> float:
    """Return frames a second, the median of fifteen timings."""
    timings = []
    for _ in range(15):
        start = time.process_time()
        for _ in range(repeats := max(512 // frames, 1)):
            call()
        timings.append((time.process_time() - start) / repeats)
    return frames / float(np.median(timings))


def print_speed() -> None:
    """Print frames a second by batch."""
    family, rng = tasks.family("watermaze"), np.random.default_rng(SEED)
    print(f"{'batch':>6}{'steps/s':>10}{'frames/s':>10}")
    for batch in (1, 16, 256):
        twin = family.make_batched([family.task_of_seed(seed) for seed in range(batch)])
        twin.reset(seeds=list(range(batch)))
        actions = rng.integers(8, size=batch)
        steps = rate(lambda twin=twin, actions=actions: twin.step(actions), frames=batch)
        places, headings = rng.uniform(-0.6, 0.6, (batch, 2)), rng.integers(NUM_HEADINGS, size=batch)
        eye = raycaster(height=family.height, width=family.width)
        frames = rate(lambda p=places, h=headings, eye=eye: eye.frames(p, h), frames=batch)
        print(f"{batch:>6}{steps:>10,.0f}{frames:>10,.0f}")


def save_picture(path: Path) -> None:
    """Save what is seen from `PLACES`, three rows of four, each pixel twice as wide and high."""
    eye = raycaster(height=72, width=96)
    frames = eye.frames(np.array([place[:2] for place in PLACES], dtype=float), np.array([h for *_, h in PLACES]))
    framed = np.pad(frames.repeat(2, axis=1).repeat(2, axis=2), ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(framed[start : start + 4]), axis=1) for start in range(0, len(framed), 4)]
    matplotlib.image.imsave(path, np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("random", "speed", "picture"))
    parser.add_argument("file", type=Path, nargs="?", help="of the picture, a .png")
    arguments = parser.parse_args()
    if arguments.what == "picture" and arguments.file is None:
        sys.exit("picture: expected a file to save it in. Give one.")
    {"random": print_random, "speed": print_speed, "picture": lambda: save_picture(arguments.file)}[arguments.what]()


if __name__ == "__main__":
    main()
