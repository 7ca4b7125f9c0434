"""`hist inspect` over a store of each family: its tasks are named as they are asked for, its episodes are drawn."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import historystore as hs
from historystore.learner_summary import task_text
from historystore.tasks import families, family

MOST_COLUMNS = 100


def family_store(path: Path, name: str) -> hs.Store:
    """Write one learner that lived two episodes at random."""
    fam = family(name)
    task, rng = fam.task_of_seed(0), np.random.default_rng(0)
    spec = hs.LearnerSpec(
        family=name,
        task=task,
        algorithm="Random",
        policy="uniform",
        num_streams=1,
        num_steps=2 * fam.max_episode_steps,
        seed=0,
    )
    store = hs.create(path, family=name, observation_space=fam.observation_space, action_space=fam.action_space)
    twin = fam.make_batched([task])
    obs = twin.reset(seeds=[0])
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(spec)
        for _ in range(spec.num_steps):
            action = rng.integers(fam.action_space.n, size=1)
            after, reward, terminated, truncated = twin.step(action)
            step = {"observation": obs, "action": action, "reward": reward}
            step |= {"terminated": terminated, "truncated": truncated}
            is_done = terminated | truncated
            obs = twin.reset(is_done)
            learner.add_steps(
                steps={field: array[None] for field, array in step.items()},  # (1, ...) -> (time 1, stream 1, ...)
                final_observations={"observation": after[is_done]},
                next_observation={"observation": obs},
            )
        learner.finish(status="complete")
    return hs.open(path)


def page(*args: str) -> str:
    command = [sys.executable, "-m", "hist_cli", "inspect", *args]
    env = os.environ | {"COLUMNS": str(MOST_COLUMNS)}
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert max(map(len, answer.stdout.split("\n"))) <= MOST_COLUMNS
    return answer.stdout


@pytest.mark.parametrize("name", families())
def test_the_store_its_task_and_a_drawn_episode_are_shown(tmp_path: Path, name: str) -> None:
    fam, store = family(name), family_store(tmp_path / "s", name)
    (learner,) = store.learners
    history = learner.histories[0].read(0, int(learner.histories[0].episodes.length[0]))
    drawing = fam.draw_episode(learner.spec.task, history["observation"], history["action"], history["reward"])
    place = str(store.path)
    assert name in page(place)
    assert name in page(place, "--task", task_text(learner.spec.task))
    if fam.num_tasks:
        index = next(index for index, task in enumerate(fam.tasks()) if task == learner.spec.task)
        assert learner.id[:8] in page(place, "--task", str(index))
    shown = page(place, "--learner", learner.id[:8], "--episode", "0")
    assert [line.rstrip() for line in drawing.split("\n") if line not in map(str.rstrip, shown.split("\n"))] == []
