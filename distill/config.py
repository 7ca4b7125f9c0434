"""What a training run is: every choice with its default, one flat list of names for `--set name=value`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from historystore.errors import InvalidValue

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]


def _parse_stride(value: object) -> object:
    """Read a stride range as `5`, `[4, 8]` or, from the command line, `4-8`."""
    if isinstance(value, str) and "-" in value:
        value = value.split("-")
    return [value, value] if isinstance(value, (int, str)) else value


Stride = Annotated[tuple[Count, Count], BeforeValidator(_parse_stride)]


class ModelConfig(BaseModel):
    """The transformer's shape and its regularisation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Count = Field(default=64, description="width of the residual stream")
    layers: Count = Field(default=3, description="number of blocks")
    heads: Count = Field(default=4, description="attention heads; the width is a multiple of them")
    feed_forward: Count = Field(default=256, description="hidden width of each block's feed-forward layer")
    layout: Literal["one", "three"] = Field(
        default="one", description="a transition as one token, or as three: observation, action and reward"
    )
    positions: Literal["learned", "rotary"] = Field(default="rotary", description="how a token knows its place")
    norm: Literal["pre", "post"] = Field(default="pre", description="layer norm before each branch, or after its sum")
    coordinates: Literal["both", "embedding", "number"] = Field(
        default="both", description="a discrete coordinate as its own embedding, as a number, or as both"
    )
    previous_observation: bool = Field(default=True, description="a layout of one: the token holds the one before too")
    vector_hidden: Count = Field(default=128, description="hidden width of the MLP that embeds a vector")
    image_encoder: Literal["small", "paper"] = Field(
        default="small", description="of images: small suits a processor, paper a GPU"
    )
    action_bins: Annotated[int, Field(ge=2)] = Field(
        default=41, description="values that each dimension of a continuous action is divided into"
    )
    dropout: Rate = Field(default=0.0, description="dropout on embeddings and on each residual branch")
    attention_dropout: Rate = Field(default=0.0, description="dropout on attention weights; slow on a CPU")

    @property
    def tokens_per_transition(self) -> int:
        """How many tokens a transition is."""
        return {"one": 1, "three": 3}[self.layout]

    @model_validator(mode="after")
    def _check_heads(self) -> ModelConfig:
        if self.width % self.heads or (self.positions == "rotary" and self.width // self.heads % 2):
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads (of even width, if rotary)")
        return self


class TrainConfig(BaseModel):
    """Everything that decides a training run, apart from the store; written beside the weights as config.json.

    Two runs with equal configurations over stores of equal digests on the same kind of processor end in the same
    weights (`tests/test_distill_training.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["ad", "ed"] = Field(default="ad", description="ad distills learning, ed only its end")
    seed: int = Field(default=0, ge=0, description="of weights, windows, masking and dropout")
    split_seed: int = Field(default=0, ge=0, description="of the split of tasks")
    split_ratios: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.1, 0.2), description="shares of tasks for training, validation and test"
    )

    context_length: Count = Field(default=200, description="transitions that the model sees at most")
    episode_stride: Stride = Field(
        default=(10, 30), description="keep every k-th episode, k drawn for each window from this range (ed: 1)"
    )
    from_start: Share = Field(default=0.4, description="share of windows that begin at a history's first step")
    splice: bool = Field(default=False, description="assemble windows from random streams of one learner")
    min_progress: float | None = Field(
        default=0.8, description="leave out learners that ended below this share of their task's best; none for all"
    )
    expert_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.1, description="ed only: the last share of each history that counts as expert"
    )

    updates: Count = Field(default=1000, description="optimiser steps")
    optimizer: Literal["muon", "adamw"] = Field(
        default="muon", description="muon moves the blocks' matrices and adamw the rest, or adamw moves all"
    )
    batch_size: Count = Field(default=64, description="windows in an update, over all devices")
    learning_rate: float = Field(default=4e-3, gt=0.0, description="highest learning rate")
    final_learning_rate: float = Field(default=0.0, ge=0.0, description="where the cosine ends")
    warmup_updates: int = Field(default=100, ge=0, description="updates of linear warm-up")
    weight_decay: float = Field(default=0.01, ge=0.0, description="of matrices; not of biases, norms, embeddings")
    betas: tuple[Rate, Rate] = Field(default=(0.9, 0.98), description="of AdamW")
    clip_norm: float = Field(default=1.0, gt=0.0, description="largest norm of a gradient")
    token_masking: Rate = Field(default=0.2, description="rate at which parts of previous transitions are hidden")
    label_smoothing: Rate = Field(default=0.0, description="of discrete actions")
    ema_decay: Rate = Field(default=0.99, description="decay of the average of weights that is kept; 0 keeps the last")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of matrix products; auto takes bfloat16 where the processor has it"
    )

    validate_every: Count = Field(default=250, description="updates between validations")
    validation_windows: Count = Field(default=256, description="windows in the validation loss")
    validation_episodes: int = Field(default=25, ge=0, description="episodes of in-context validation; 0 for none")
    validation_rollouts: Count = Field(default=4, description="rollouts of each validation task")
    checkpoint_every: Count = Field(default=100, description="updates between checkpoints")

    model: ModelConfig = Field(default=ModelConfig(), description="the transformer")

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.episode_stride[0] > self.episode_stride[1]:
            raise ValueError(f"episode_stride {self.episode_stride} is no range")
        return self

    @classmethod
    def settings(cls) -> list[tuple[str, object, str]]:
        """Return the name, default and meaning of every value that `with_values` takes, the model's included."""
        fields = {name: field for name, field in cls.model_fields.items() if name != "model"}
        fields |= ModelConfig.model_fields
        return [(name, field.default, field.description or "") for name, field in fields.items()]

    def with_values(self, values: Mapping[str, Any]) -> TrainConfig:
        """Return a copy with some values replaced; strings are read as JSON where they are JSON.

        Raises:
            InvalidValue: a name that does not exist, or a value that its field refuses.
        """
        names = {name for name, _, _ in self.settings()}
        unknown = sorted(set(values) - names)
        if unknown:
            known = ", ".join(sorted(names))
            raise InvalidValue(f"{unknown[0]}: no such training setting. Choose one of: {known}.")
        document = self.model_dump(mode="json")
        for name, value in values.items():
            place = document["model"] if name in ModelConfig.model_fields else document
            place[name] = _read_value(value)
        return parse_config(document)


def parse_config(document: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration in a document, or raise InvalidValue with its first problem."""
    try:
        return TrainConfig.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        text = problem["msg"].removeprefix("Value error, ")
        place = [part for part in problem["loc"] if part != "model"]
        where = f"{'.'.join(map(str, place))}: {text}, got {problem['input']!r}" if place else f"settings: {text}"
        raise InvalidValue(f"{where}. hist train --help lists every setting.") from error


def _read_value(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return None if value.lower() == "none" else value
