"""The Algorithm Distillation transformer: one token a transition, causal, action logits at every position.

It maximises `sum_t log p(a_t | o_t, h_{t-1})`, equation 6 of Laskin et al. (2023), where `h_{t-1}` is everything before
position t in the window. Departures from their model: one token holds a transition (they spend three), blocks are
pre-norm, and a token may repeat the previous observation, so that one look-up says what was done where.

B is batch, T tokens, C width, H heads, D = C / H.
"""

from __future__ import annotations

import gymnasium as gym
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .config import ModelConfig
from .embedding import TokenEmbedding, discrete
from .tokens import Tokens

ROTARY_BASE = 500.0
"""Longest wavelength over 2 pi: contexts are hundreds of transitions, not a book's thousands of words."""


class Cache:
    """Keys and values of the tokens seen so far, in memory laid out once for a whole context."""

    def __init__(self, config: ModelConfig, *, batch_size: int, context_length: int, device: torch.device) -> None:
        shape = (config.layers, 2, batch_size, config.heads, context_length, config.width // config.heads)
        self.memory = torch.zeros(shape, device=device)  # (layers, key and value, B, H, context, D)
        self.length = 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values, (B, H, T, D), and return those of all tokens."""
        stop = self.length + key.shape[2]
        keys, values = self.memory[layer, 0], self.memory[layer, 1]
        keys[:, :, self.length : stop] = key
        values[:, :, self.length : stop] = value
        return keys[:, :, :stop], values[:, :, :stop]


def rotary_angles(length: int, width: int) -> Float[Tensor, "2 length half"]:
    """Return cosine and sine of the rotary angles (Su et al., 2021) of `length` positions for heads of this width."""
    frequency = ROTARY_BASE ** (-torch.arange(0, width, 2) / width)  # (D / 2,)
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Float[Tensor, "batch heads time width"], angles: Float[Tensor, "2 time half"]) -> Tensor:
    """Turn queries or keys by the angles of their positions."""
    (cos, sin), (left, right) = angles, x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor, *, dropout: float) -> Tensor:
    """Return causal attention, (B, H, T, D); one query alone sees every key.

    In bfloat16 on a CPU the products are written out: that is twice as fast there as PyTorch's fused kernel, which
    wins everywhere else (`tests/benchmarks/training.py`).
    """
    batch, heads, time, width = query.shape
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, is_causal=time > 1, dropout_p=dropout)
    with torch.autocast("cpu", enabled=False):
        query, key, value = (x.reshape(batch * heads, time, width) for x in (query, key, value))  # (B * H, T, D)
        future = torch.full((time, time), -torch.inf, dtype=query.dtype).triu(1)
        weights = torch.baddbmm(future, query, key.transpose(1, 2), alpha=width**-0.5).softmax(-1)  # (B * H, T, T)
        return (F.dropout(weights, dropout) @ value).view(batch, heads, time, width)


class Attention(nn.Module):
    """Causal self-attention with many heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads, self.dropout = layer, config.heads, config.attention_dropout
        self.query_key_value = nn.Linear(config.width, 3 * config.width, bias=False)
        self.project = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, angles: Tensor | None, cache: Cache | None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        batch, time, width = x.shape
        split = self.query_key_value(x).view(batch, time, 3, self.heads, width // self.heads)  # (B, T, 3, H, D)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if angles is not None:
            query, key = rotate(query, angles).to(value.dtype), rotate(key, angles).to(value.dtype)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        y = attend(query, key, value, dropout=self.dropout if self.training else 0.0)
        z: Tensor = self.project(y.transpose(1, 2).reshape(batch, time, width))  # (B, H, T, D) -> (B, T, C)
        return z


class Block(nn.Module):
    """Attention, then a feed-forward layer, each on the normalised stream and added to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config, layer)
        self.expand = nn.Linear(config.width, config.feed_forward)
        self.project = nn.Linear(config.feed_forward, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: Tensor | None, cache: Cache | None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), angles, cache))
        y: Tensor = x + self.dropout(self.project(F.relu(self.expand(self.feed_forward_norm(x)))))
        return y


class DistilledAgent(nn.Module):
    """A policy whose learning happens in its context: tokens in, logits of the next action out."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        context_length: int,
        observation_space: gym.Space[object],
        action_space: gym.Space[object],
    ) -> None:
        super().__init__()
        self.config, self.context_length = config, context_length
        self.observation_space, self.action_space = observation_space, discrete(action_space)
        self.embedding = TokenEmbedding(config, observation_space, int(self.action_space.n))
        self.positions = nn.Embedding(context_length, config.width) if config.positions == "learned" else None
        self.angles: Tensor
        angles = rotary_angles(context_length, config.width // config.heads)
        self.register_buffer("angles", angles, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, int(self.action_space.n))
        self.apply(self._initialise)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def first_action(self) -> int:
        """The action that the model counts as 0."""
        return int(self.action_space.start)

    def _initialise(self, module: nn.Module) -> None:
        """Keep the stream's scale: branches are smaller where 2 x layers of them add up, the head is nearly uniform."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)
        if isinstance(module, (Attention, Block)):
            with torch.no_grad():
                module.project.weight.mul_((2 * self.config.layers) ** -0.5)
        if isinstance(module, DistilledAgent):
            nn.init.normal_(module.head.weight, std=0.02)

    def forward(self, tokens: Tokens, cache: Cache | None = None) -> Float[Tensor, "batch time actions"]:
        """Return the logits of the action at every position.

        With a cache, tokens follow those already in it: either the cache is empty, or one token comes at a time.
        """
        start = cache.length if cache is not None else 0
        time = tokens.episode_start.shape[1]
        assert start == 0 or time == 1
        with torch.autocast(tokens.episode_start.device.type, enabled=False):
            x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[start : start + time]
        x = self.dropout(x)
        angles = self.angles[:, start : start + time] if self.positions is None else None
        for block in self.blocks:
            x = block(x, angles, cache)
        if cache is not None:
            cache.length += time
        with torch.autocast(tokens.episode_start.device.type, enabled=False):
            logits: Tensor = self.head(self.norm(x.float()))
            return logits
