"""Make the golden stores of this version of the format: `python tests/golden/make.py`.

Each is a folder ``<version>/<name>`` with a store and what it must say for ever. They are made anew until the version
is released, and never again after that; those of 0.1 were made by this script with the code of 0.1.0.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

GOLDEN = Path(__file__).parent
sys.path.append(str(GOLDEN.parent))

import store_samples  # noqa: E402
from golden_facts import facts  # noqa: E402
from store_samples import add_updates, checkpoint, life  # noqa: E402

import historystore as hs  # noqa: E402
from historystore.documents import FORMAT_VERSION, Continuation  # noqa: E402

PROVENANCE = hs.Provenance(
    engine="custom",
    engine_version="1",
    algorithm_path="",
    environment="Grid-v0",
    versions={"numpy": "1"},
    host="golden",
    best_return=3.5,
)
IS_FIRST = FORMAT_VERSION == "0.1"
WORDS = spaces.Dict(
    {
        "text": spaces.Text(6, min_length=0, charset="abcé"),
        "graph": spaces.Graph(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)),
    }
)
CHOICES = spaces.OneOf([spaces.Discrete(4), spaces.Sequence(spaces.Box(0, 9, (), np.int16))])


def main() -> None:
    stores: dict[str, Callable[[Path], None]] = {"grid": grid}
    if not IS_FIRST:
        stores["words"] = words
    for name, make in stores.items():
        folder = GOLDEN / FORMAT_VERSION / name
        shutil.rmtree(folder, ignore_errors=True)
        make(folder / "store")
        store = hs.open(folder / "store")
        (folder / "expected.json").write_text(json.dumps(facts(store), ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "store" / "index.arrow").unlink()


def grid(path: Path) -> None:
    """Attempts of every kind: whole over two shards, partial, failed, and one continued in another kind of file."""
    store = store_samples.create(path)
    lives = [life(seed=seed, num_steps=40, num_streams=1 + seed % 3) for seed in range(5)]
    with hs.StoreWriter(store) as writer:
        whole, partial, failed, first = (writer.begin(lives[i].spec, provenance=PROVENANCE) for i in (2, 1, 3, 4))
        lives[2].add(whole, 0, 15)
        writer.seal()
        lives[2].add(whole, 15, 40)
        add_updates(whole, 40)
        whole.finish(checkpoint=checkpoint(path))
        lives[1].add(partial, 0, 10)
        lives[3].add(failed, 0, 21)
        add_updates(failed, 21)
        failed.finish(status="failed", error="ValueError: the loss is not finite")
        lives[4].add(first, 0, 30)
        add_updates(first, 30)
    way = {"profile": "compat"} if IS_FIRST else {"format": "arrow", "profile": "archive"}
    with hs.StoreWriter(store, **way) as writer:
        other = writer.begin(lives[0].spec, provenance=PROVENANCE)
        lives[0].add(other, 0, 40)
        continues = Continuation(attempt=first.attempt, step=20)
        second = writer.begin(lives[4].spec, provenance=PROVENANCE, continues=continues)
        lives[4].add(second, 20, 40)
        second.add_update(step=40, values={"train/loss": 1.0}, learning_rate=5e-4, wall_time_s=0.1)
        other.finish()
        second.finish()


def words(path: Path) -> None:
    """Values of no fixed size, in both formats."""
    store = hs.create(path, family="words", observation_space=WORDS, action_space=CHOICES)
    for seed, way in enumerate(({"profile": "compat"}, {"format": "arrow"})):
        spec = hs.LearnerSpec(family="words", algorithm="a", policy="p", num_streams=1, num_steps=4, seed=seed)
        WORDS.seed(seed)
        CHOICES.seed(seed)
        with hs.StoreWriter(store, **way) as writer:
            learner = writer.begin(spec, provenance=PROVENANCE)
            learner.add_steps(
                {
                    **_columns("observation", WORDS, 4),
                    **_columns("action", CHOICES, 4),
                    "reward": np.linspace(0, 1, 4)[:, None],
                    "terminated": np.arange(4)[:, None] == 1,
                    "truncated": np.zeros((4, 1), bool),
                },
                final_observations=_rows("observation", WORDS, 1),
                next_observation=_rows("observation", WORDS, 1),
            )
            learner.finish()


def _rows(prefix: str, space: spaces.Space[Any], num_rows: int) -> dict[str, np.ndarray]:
    """Return sampled values as columns (rows, ...)."""
    from historystore.fields import flatten

    if isinstance(space, spaces.Dict):
        parts = [_rows(f"{prefix}/{key}", part, num_rows) for key, part in space.spaces.items()]
        return {name: column for part in parts for name, column in part.items()}
    values = [space.sample() for _ in range(num_rows)]
    return flatten(prefix, space, values)


def _columns(prefix: str, space: spaces.Space[Any], num_steps: int) -> dict[str, np.ndarray]:
    """Return sampled values as columns (steps, streams, ...)."""
    return {name: column[:, None] for name, column in _rows(prefix, space, num_steps).items()}


if __name__ == "__main__":
    main()
