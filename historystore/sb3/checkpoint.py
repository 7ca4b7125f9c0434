"""A Stable-Baselines3 model as a checkpoint of a store, and back."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch as th
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv

from historystore.checkpoints import CheckpointDocument, file_digests, read_checkpoint, write_checkpoint
from historystore.errors import InvalidValue
from historystore.sb3.describe import Json, described
from historystore.sb3.plain import NotPlainError, class_path, from_plain, load_class, to_plain
from historystore.spaces import space_from_json, space_to_json
from historystore.store import Store

_PARAMETERS, _OPTIMIZERS = "parameters.safetensors", "optimizers.safetensors"
_NOT_KEPT = {"self", "policy", "env", "device", "tensorboard_log", "verbose", "_init_setup_model"}
_PROGRESS = (
    "_current_progress_remaining",
    "_episode_num",
    "_n_calls",
    "_n_updates",
    "_total_timesteps",
    "exploration_rate",
    "num_timesteps",
)


def save_checkpoint(store: Store, model: BaseAlgorithm, *, others: Mapping[str, bytes] | None = None) -> str:
    """Put a model's parameters, optimiser state and settings into a store, and return the checkpoint's name.

    Replay buffer and random generators are not part of it. A schedule that is the user's own function is stored as the
    number that it is now; what else cannot be written without pickle is listed in the checkpoint's `left_out`.

    Args:
        store: the store.
        model: the model.
        others: the bytes of further files to keep in the checkpoint, by name.

    Raises:
        WriteFailed: the disk refused.
    """
    attributes, left_out = _attributes(model)
    parameters, optimizers, optimizer_tensors = _state(model)
    files = {**(others or {}), _PARAMETERS: save_tensors(parameters), _OPTIMIZERS: save_tensors(optimizer_tensors)}
    try:
        policy = class_path(model.policy_class)
    except NotPlainError:
        policy = None
    document = CheckpointDocument(
        algorithm=f"{type(model).__module__}:{type(model).__qualname__}",
        policy=policy,
        observation_space=space_to_json(model.observation_space),
        action_space=space_to_json(model.action_space),
        num_streams=model.n_envs,
        attributes=attributes,
        left_out=left_out,
        optimizers=optimizers,
        files=file_digests(files),
    )
    return write_checkpoint(store.place, document, files)


def load_checkpoint(
    store: Store,
    name: str,
    *,
    env: GymEnv | None = None,
    device: th.device | str = "cpu",
    attributes: Mapping[str, Any] | None = None,
) -> BaseAlgorithm:
    """Load a model from a store: it predicts as the saved one did, and with an environment it can go on learning.

    Args:
        store: the store.
        name: the checkpoint's name, as the learner's row holds it.
        env: environments to learn in; those of a learner are not part of a checkpoint.
        device: where the parameters go.
        attributes: values in place of the stored ones, by the names of the algorithm's arguments (and ``policy``).

    Raises:
        StoreNotFound: the store has no such checkpoint.
        DamagedData: a file does not hold what was written to it, or a class is not installed.
        InvalidValue: the policy is a class of a script, and none is given.
    """
    document, files = read_checkpoint(store.place, name)
    given = dict(attributes or {})
    model = _built(document, policy=given.pop("policy", None), env=env, device=device, attributes=given)
    set_parameters(model, document, files)
    return model


def set_parameters(model: BaseAlgorithm, document: CheckpointDocument, files: Mapping[str, bytes]) -> None:
    """Give a model of the same make the parameters and optimiser state of a checkpoint."""
    _restore(model, document.optimizers, load_tensors(files[_PARAMETERS]), load_tensors(files[_OPTIMIZERS]))


def _built(
    document: CheckpointDocument,
    *,
    policy: type | None,
    env: GymEnv | None,
    device: th.device | str,
    attributes: Mapping[str, Any],
) -> BaseAlgorithm:
    """Return a model of the checkpoint's settings with fresh parameters."""
    if policy is None and document.policy is None:
        raise InvalidValue(
            "checkpoint: the policy is a class of the script that trained it, expected one that can be imported. "
            "Give it with attributes={'policy': ...}."
        )
    cls: Any = load_class(document.algorithm)
    wrapped = None if env is None else env if isinstance(env, VecEnv) else cls._wrap_env(env)
    model: Any = cls(policy=policy or load_class(document.policy), env=wrapped, device=device, _init_setup_model=False)
    vars(model).update({key: from_plain(value) for key, value in document.attributes.items()}, **attributes)
    model.observation_space = space_from_json(document.observation_space)
    model.action_space = space_from_json(document.action_space)
    model.n_envs = document.num_streams if wrapped is None else wrapped.num_envs
    model.seed, seed = None, model.seed  # with a seed, setting up would reset the generators of the whole process
    with warnings.catch_warnings():  # the buffer's class and arguments are those of the stored n-step returns
        warnings.filterwarnings("ignore", message=".*is ignored because a custom `replay_buffer_class`")
        model._setup_model()
    model.seed = seed
    return model  # type: ignore[no-any-return]


def _attributes(model: BaseAlgorithm) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return what can be read back of a model's settings and progress, and descriptions of the rest."""
    names = [name for name in inspect.signature(type(model).__init__).parameters if name not in _NOT_KEPT]
    kept, left_out = {}, {}
    for name in (*names, *_PROGRESS):
        if not hasattr(model, name):
            continue
        value = getattr(model, name)
        try:
            kept[name] = to_plain(value)
        except NotPlainError:
            left_out[name] = described(value)
            if isinstance(value, FloatSchedule) or name == "learning_rate":
                kept[name] = float(value(model._current_progress_remaining))
    return kept, left_out


def _state(model: BaseAlgorithm) -> tuple[dict[str, th.Tensor], dict[str, Json], dict[str, th.Tensor]]:
    """Return a model's parameters, and its optimisers' state apart from and as tensors."""
    parameters: dict[str, th.Tensor] = {}
    optimizers: dict[str, Json] = {}
    tensors: dict[str, th.Tensor] = {}
    for part, state in model.get_parameters().items():
        if "param_groups" not in state:
            parameters |= {f"{part}/{name}": _own(tensor) for name, tensor in state.items()}
            continue
        numbers: dict[str, dict[str, Json]] = {}
        for index, entries in state["state"].items():
            numbers[str(index)] = {key: to_plain(value) for key, value in entries.items() if not th.is_tensor(value)}
            tensors |= {f"{part}/{index}/{key}": _own(value) for key, value in entries.items() if th.is_tensor(value)}
        optimizers[part] = {"param_groups": to_plain(state["param_groups"]), "state": numbers}
    for name in model._get_torch_save_params()[1]:
        parameters[f"/{name}"] = _own(getattr(model, name))
    return parameters, optimizers, tensors


def _restore(
    model: BaseAlgorithm,
    optimizers: Mapping[str, Any],
    parameters: Mapping[str, th.Tensor],
    tensors: Mapping[str, th.Tensor],
) -> None:
    """Put the stored state into a fresh model."""
    state: dict[str, Any] = {}
    for path, tensor in parameters.items():
        part, _, name = path.partition("/")
        if part:
            state.setdefault(part, {})[name] = tensor
        else:
            getattr(model, name).data = tensor.to(model.device)
    for part, document in optimizers.items():
        entries = {int(index): dict(map(_entry, numbers.items())) for index, numbers in document["state"].items()}
        state[part] = {"param_groups": from_plain(document["param_groups"]), "state": entries}
    for path, tensor in tensors.items():
        part, index, key = path.split("/")
        state[part]["state"][int(index)][key] = tensor
    model.set_parameters(state, device=model.device)


def _entry(item: tuple[str, Json]) -> tuple[str, Any]:
    return item[0], from_plain(item[1])


def _own(tensor: th.Tensor) -> th.Tensor:
    """Return a copy that shares memory with no other tensor, as safetensors wants it."""
    return tensor.detach().cpu().contiguous().clone()
