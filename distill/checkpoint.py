"""What a training goes on from: weights, their average, the optimiser's moments, and the number of updates done.

That is all: windows, masking and dropout of an update are functions of the seed and the update's number, so there is no
generator and no place in the data to keep. One safetensors file, replaced whole; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from historystore.errors import DamagedData

from .run import read_tensors, write_tensors


def write_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    average: nn.Module | None,
    optimizers: Sequence[torch.optim.Optimizer],
    update: int,
) -> None:
    """Write a checkpoint in place of the one before."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
    for optimizer in optimizers:
        for name, parameter in model.named_parameters():
            state = optimizer.state.get(parameter, {})
            tensors |= {f"optimizer/{name}/{key}": tensor for key, tensor in state.items()}
    write_tensors(path, tensors, {"update": str(update)})


def restore_checkpoint(
    path: Path, *, model: nn.Module, average: nn.Module | None, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Put everything back as it was and return the number of updates done."""
    tensors, metadata = read_tensors(path)
    try:
        model.load_state_dict(_group(tensors, "model"))
        if average is not None:
            average.load_state_dict(_group(tensors, "average"))
        named = dict(model.named_parameters())
        for optimizer in optimizers:
            owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in named.items():
                if id(parameter) in owned:
                    state = _group(tensors, f"optimizer/{name}")
                    optimizer.state[parameter] = {key: tensor.to(parameter.device) for key, tensor in state.items()}
        return int(metadata["update"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise DamagedData(f"{path}: does not fit config.json, {error}. Delete it to train from the start.") from error


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{group}/")}
