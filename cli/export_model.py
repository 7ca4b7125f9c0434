"""`hist export-model`: a learner's model as Stable-Baselines3's own file."""

from __future__ import annotations

from pathlib import Path

import click

from .output import answers, print_json
from .places import STORE


@click.command()
@click.argument("store", type=STORE)
@click.argument("learner")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, learner: str, out: Path, *, is_json: bool) -> None:
    """Write a learner's model as a Stable-Baselines3 zip file.

    LEARNER is the beginning of its id, or its seed as seed=7. It needs a checkpoint: of its end (hist record
    --checkpoints final), or the last one on the way there (every=N). What OUT acts like is exactly what the learner was
    there. Stable-Baselines3 reads it with pickle, so load it only where you trust the store.

    \b
    Examples:
      hist record --algo ppo --env darkroom --seeds 0-9 --checkpoints final
      hist export-model darkroom-ppo seed=7 goal7.zip
      python -c "from stable_baselines3 import PPO; print(PPO.load('goal7.zip').policy)"
    """
    from historystore.store import open as open_store

    opened = open_store(store)
    found = opened.learner(learner)
    from historystore.sb3.export import export_model

    report = export_model(opened, found, out)
    if is_json:
        print_json(report)
        return
    console = answers()
    name = report.algorithm.rpartition(":")[2]
    text = (
        f"{report.path}: the {name} model of learner {report.learner[:12]} after {report.num_timesteps:,} steps, "
        f"{report.num_bytes:,} bytes"
    )
    console.print(text, markup=False, soft_wrap=True)
    for setting in report.left_out:
        console.print(f"{setting} is a constant there, as it was at the end", markup=False, soft_wrap=True)
    console.print(f"next: {name}.load({report.path!r})", markup=False, soft_wrap=True)
