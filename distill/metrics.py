"""A run's scalars: a JSON line each in metrics.jsonl, and the same in TensorBoard's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from torch.utils.tensorboard import SummaryWriter

from historystore.files import replace_file, write_errors

from .progress import TrainProgress


class MetricsLog:
    """Appends scalars by update; what lies after the checkpoint that a training goes on from is cut off first.

    Of several processes one writes; for the others this is a place to drop scalars.

    Raises:
        WriteFailed: the disk refused.
    """

    def __init__(self, path: Path, *, update: int, is_writing: bool) -> None:
        self._file: TextIO | None = None
        self._path = path / "metrics.jsonl"
        if not is_writing:
            return
        if self._path.exists():
            kept = [line for line in self._path.read_bytes().splitlines(keepends=True) if _is_before(line, update)]
            replace_file(self._path, b"".join(kept))
        with write_errors(self._path):
            self._file = self._path.open("a")
            self._writer = SummaryWriter(str(path / "tensorboard"), purge_step=update + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with write_errors(self._path), self._file:
                self._writer.close()

    def add(self, progress: TrainProgress) -> None:
        """Log an update."""
        if self._file is None:
            return
        scalars = progress.scalars()
        with write_errors(self._path):
            self._file.write(json.dumps({"update": progress.update, **scalars}) + "\n")
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, progress.update)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._file is not None:
            with write_errors(self._path):
                self._file.flush()
                self._writer.flush()


def _is_before(line: bytes, update: int) -> bool:
    """Whether a line is whole and of an update that the checkpoint contains."""
    try:
        return bool(json.loads(line)["update"] <= update)
    except ValueError:
        return False
