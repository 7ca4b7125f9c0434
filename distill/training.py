"""Training: windows of histories in, a transformer out that does in its context what the histories' learners did."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from accelerate import Accelerator

import historystore.store
from historystore.errors import InvalidValue, SpaceMismatch
from historystore.files import sweep
from historystore.spaces import space_to_json
from historystore.splits import Split, Task, split_tasks
from historystore.store import Store
from historystore.tasks import find
from historystore.torch import WindowDataset
from historystore.windows import tasks_of

from .batches import Batch, Objective, read_batch, windows_of
from .checkpoint import restore_checkpoint, write_checkpoint
from .config import TrainConfig
from .metrics import MetricsLog
from .model import DistilledAgent
from .optimization import WeightAverage, learning_rate, make_optimizers
from .progress import TrainProgress, Validation
from .references import references_of
from .rollouts import roll_out
from .run import DistilledStore, RunDocument, begin_run, library_versions, new_agent, read_metadata, write_tensors
from .worlds import args_of, find_family

Source: TypeAlias = Store | str | os.PathLike[str]


def train(
    stores: Source | Sequence[Source], out: str | os.PathLike[str], config: TrainConfig | None = None
) -> Generator[TrainProgress, None, None]:
    """Distill stores into a run's folder, update by update.

    The same call goes on where a killed one stopped, and ends in the weights that it would have ended in, bit for bit
    on the same number of threads (`tests/test_distill_resume.py`). A crash loses the updates since the last
    checkpoint, at most `config.checkpoint_every`; closing the generator (or leaving its loop) saves first and loses
    none. A complete run yields nothing.

    Tasks are split by `config.split_seed`; those of the test part are never read. A store of a single task is
    trained on whole, and nothing is left to validate or test on. With `accelerate launch` several devices share each
    batch.

    Raises:
        InvalidValue: no learner is left to train on, the folder holds another run, spaces that cannot be distilled.
        SpaceMismatch: the stores differ in family or spaces.
    """
    opened = [it if isinstance(it, Store) else historystore.store.open(it) for it in _as_list(stores)]
    config = config or TrainConfig()
    path, accelerator = Path(out), Accelerator()
    if config.batch_size % accelerator.num_processes:
        raise InvalidValue(
            f"batch_size: {config.batch_size} windows do not divide over {accelerator.num_processes} devices."
        )
    document = _document(opened, config)
    training = _Training(opened, path, document, config, accelerator)
    if accelerator.is_main_process:
        begin_run(path, document, config, references_of(opened, steps_per_point=_episode_steps(document)))
        sweep(path)
    accelerator.wait_for_everyone()
    return training.updates()


class _Training:
    """The state of a training between two updates."""

    def __init__(
        self, stores: Sequence[Store], path: Path, document: RunDocument, config: TrainConfig, accelerator: Accelerator
    ) -> None:
        self.path, self.document, self.config, self.accelerator = path, document, config, accelerator
        self.family = find_family(document)
        self.device: torch.device = accelerator.device
        self.is_bfloat16 = uses_bfloat16(config, self.device)
        self.windows = windows_of(stores, document.split.train, config)
        self.validation_windows = (
            windows_of(stores, document.split.validation, config) if document.split.validation else None
        )
        with _seeded(self.device, config.seed):
            self.agent = new_agent(document, config).to(self.device)
        self.optimizers = make_optimizers(self.agent, config)
        self.average = WeightAverage(self.agent, decay=config.ema_decay) if config.ema_decay else None
        self.checkpoint = path / "checkpoint.safetensors"
        self.update = 0

    @property
    def best_agent(self) -> DistilledAgent:
        """The weights that are kept: the average, where there is one."""
        return self.agent if self.average is None else self.average.model

    def updates(self) -> Generator[TrainProgress, None, None]:
        """Do the updates that are left; saves every so often, at the end, and when the generator is closed."""
        self.update = self._updates_done()
        if self.update >= self.config.updates:
            return
        objective = Objective(self.agent, self.config)
        self.objective, *self.steppers = self.accelerator.prepare(objective, *self.optimizers)
        with MetricsLog(self.path, update=self.update, is_writing=self.accelerator.is_main_process) as metrics:
            while self.update < self.config.updates:
                progress = self._next()
                metrics.add(progress)
                is_last = self.update == self.config.updates
                if is_last or self.update % self.config.checkpoint_every == 0:
                    self._save(metrics)
                try:
                    yield progress
                except GeneratorExit:
                    self._save(metrics)
                    raise

    def _next(self) -> TrainProgress:
        """Do one update, and a validation where one is due."""
        started = time.perf_counter()
        rate = learning_rate(self.config, self.update)
        with _seeded(self.device, self.config.seed, self.update, self.accelerator.process_index):
            loss = self._step(rate)
        seconds = time.perf_counter() - started
        self.update += 1
        if not math.isfinite(loss):
            raise InvalidValue(f"training: the loss of update {self.update} is {loss}. {self._remedy()}")
        is_due = self.update % self.config.validate_every == 0 or self.update == self.config.updates
        return TrainProgress(
            update=self.update,
            num_updates=self.config.updates,
            loss=loss,
            learning_rate=rate,
            tokens_per_s=self.config.batch_size * self.config.context_length / seconds,
            validation=self._validation() if is_due else None,
        )

    def _step(self, rate: float) -> float:
        """Move the weights by one batch and return its loss; each device takes its share of the batch."""
        config, batch = self.config, self._batch(self.update)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            loss = self.objective(batch)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.objective.parameters(), config.clip_norm)
        for optimizer in self.steppers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.follow(self.agent, update=self.update)
        return float(loss.detach())

    def _batch(self, update: int) -> Batch:
        """Read this device's share of an update's windows."""
        share = self.config.batch_size // self.accelerator.num_processes
        first = update * self.config.batch_size + self.accelerator.process_index * share
        return read_batch(self.windows, start=first, stop=first + share, agent=self.agent)

    def _remedy(self) -> str:
        """Say what to do where the loss of the last update is no number."""
        batch = self._batch(self.update - 1)
        columns = {**batch.columns, "reward": batch.reward}
        infinite = [name for name, column in columns.items() if not bool(torch.isfinite(column).all())]
        if not infinite:
            return "Lower learning_rate."
        where = ", ".join(infinite)
        return f"The store has numbers in {where} that are not finite. Leave those learners out with hist filter."

    def _validation(self) -> Validation | None:
        """Hold the kept weights against tasks that are not trained on; None without such tasks."""
        if self.validation_windows is None or not self.accelerator.is_main_process:
            return None
        agent, was_training = self.best_agent, self.best_agent.training
        agent.eval()
        loss = self._validation_loss(agent, self.validation_windows)
        validation = Validation(loss=loss, last_return=self._validation_return(agent))
        agent.train(was_training)
        return validation

    @torch.inference_mode()
    def _validation_loss(self, agent: DistilledAgent, windows: WindowDataset) -> float:
        """Return the loss over the first windows of the validation tasks, always the same ones."""
        total, size, num_windows = 0.0, self.config.batch_size, self.config.validation_windows
        for start in range(0, num_windows, size):
            stop = min(start + size, num_windows)
            batch = read_batch(windows, start=start, stop=stop, agent=agent)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bfloat16):
                logits = agent(batch.tokens(agent))
            total += float(agent.actions.loss(logits, batch.target)) * (stop - start)
        return total / num_windows

    def _validation_return(self, agent: DistilledAgent) -> float | None:
        """Let the agent learn in context on validation tasks; the mean return of the last quarter of episodes."""
        episodes = self.config.validation_episodes
        if episodes == 0 or self.family is None:
            return None
        lived = roll_out(
            agent,
            self.family,
            self.document.split.validation,
            num_rollouts=self.config.validation_rollouts,
            num_episodes=episodes,
            seed=self.config.seed,
        )
        return float(lived.returns[..., -math.ceil(episodes / 4) :].mean())

    def _save(self, metrics: MetricsLog) -> None:
        """Make everything up to now outlive the process."""
        if not self.accelerator.is_main_process:
            return
        metrics.flush()
        if self.update < self.config.updates:
            write_checkpoint(
                self.checkpoint,
                model=self.agent,
                average=None if self.average is None else self.average.model,
                optimizers=self.optimizers,
                update=self.update,
            )
        weights = self.best_agent.state_dict()
        write_tensors(self.path / "model.safetensors", weights, {"update": str(self.update)})
        if self.update == self.config.updates:
            self.checkpoint.unlink(missing_ok=True)

    def _updates_done(self) -> int:
        """Return how many updates the run has behind it, everything put back to where they left it."""
        weights = self.path / "model.safetensors"
        if not self.checkpoint.exists():
            is_complete = weights.exists() and int(read_metadata(weights)["update"]) == self.config.updates
            return self.config.updates if is_complete else 0
        average = None if self.average is None else self.average.model
        return restore_checkpoint(self.checkpoint, model=self.agent, average=average, optimizers=self.optimizers)


def uses_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16; `auto` asks for hardware that has them, not an emulation."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and bool(has_instructions())


def _document(stores: Sequence[Store], config: TrainConfig) -> RunDocument:
    """Describe the run that these stores and this configuration make."""
    first = stores[0]
    for other in stores[1:]:
        same = (first.document.family, first.observation_space, first.action_space)
        if (other.document.family, other.observation_space, other.action_space) != same:
            raise SpaceMismatch(
                f"{other.place}: has another family or other spaces than {first.place}. Train on one kind."
            )
    name, args = first.document.family, args_of(stores)
    found = None if args is None else find(name, args)
    return RunDocument(
        family=name,
        family_version=None if found is None else found.version,
        family_args=args,
        observation_space=space_to_json(first.observation_space),
        action_space=space_to_json(first.action_space),
        stores=tuple(DistilledStore(id=store.document.id, digest=store.digest) for store in stores),
        split=_split(tasks_of(stores), config),
        versions=library_versions(),
    )


def _split(tasks: Sequence[Task], config: TrainConfig) -> Split:
    """Split the tasks; a single one is trained on, for nothing can be held out."""
    ratios = (1.0, 0.0, 0.0) if len(tasks) == 1 else config.split_ratios
    return split_tasks(tasks, seed=config.split_seed, ratios=ratios)


def _episode_steps(document: RunDocument) -> int | None:
    """Return how long an episode is at most, where the family knows."""
    found = find_family(document)
    return None if found is None else found.max_episode_steps


@contextmanager
def _seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Draw from generators that depend on some numbers alone; the caller's come back as they were."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _as_list(stores: Source | Sequence[Source]) -> list[Source]:
    return [stores] if isinstance(stores, (Store, str, os.PathLike)) else list(stores)
