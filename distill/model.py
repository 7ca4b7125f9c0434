"""The Algorithm Distillation transformer: causal, action logits at every transition.

It maximises `sum_t log p(a_t | o_t, h_{t-1})`, equation 6 of Laskin et al. (2023), where `h_{t-1}` is everything before
position t in the window. Their model spends three tokens on a transition and normalises after each branch
(`layout=three`, `norm=post`). By default ours departs from it: one token holds a transition, blocks are pre-norm, and a
token may repeat the previous observation, so that one look-up says what was done where.

B is batch, T tokens, C width, H heads, D = C / H.
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium as gym
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .actions import ActionCode
from .config import ModelConfig
from .embedding import TokenEmbedding
from .tokens import Tokens

ROTARY_BASE = 500.0
"""Longest wavelength over 2 pi: contexts are hundreds of tokens, not a book's thousands of words."""


class Cache:
    """Keys and values of the tokens seen so far, in memory laid out once for a whole context."""

    def __init__(self, config: ModelConfig, *, batch_size: int, context_length: int, device: torch.device) -> None:
        num_tokens = context_length * config.tokens_per_transition
        shape = (config.layers, 2, batch_size, config.heads, num_tokens, config.width // config.heads)
        self.memory = torch.zeros(shape, device=device)  # (layers, key and value, B, H, tokens, D)
        self.length = 0
        """Tokens that it holds."""

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
    """Return causal attention, (B, H, T, D), of the last T of all tokens.

    In bfloat16 on a CPU the products are written out: that is twice as fast there as PyTorch's fused kernel, which
    wins everywhere else (`tests/benchmarks/training.py`).
    """
    batch, heads, time, width = query.shape
    num_keys = key.shape[2]
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        is_square = time == num_keys and time > 1
        past = None
        if 1 < time < num_keys:
            past = torch.ones((time, num_keys), dtype=torch.bool, device=query.device).tril(num_keys - time)
        return F.scaled_dot_product_attention(query, key, value, past, is_causal=is_square, dropout_p=dropout)
    with torch.autocast("cpu", enabled=False):
        query, key, value = (x.reshape(batch * heads, -1, width) for x in (query, key, value))  # (B * H, T, D)
        future = torch.full((time, num_keys), -torch.inf, dtype=query.dtype).triu(1 + num_keys - time)
        weights = torch.baddbmm(future, query, key.transpose(1, 2), alpha=width**-0.5).softmax(-1)  # (B * H, T, keys)
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
    """Attention, then a feed-forward layer, each added to the stream, which is normalised before or after."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.is_norm_first = config.norm == "pre"
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config, layer)
        self.expand = nn.Linear(config.width, config.feed_forward)
        self.project = nn.Linear(config.feed_forward, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: Tensor | None, cache: Cache | None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        if self.is_norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), angles, cache))
            y: Tensor = x + self.dropout(self._feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, angles, cache)))
            y = self.feed_forward_norm(x + self.dropout(self._feed_forward(x)))
        return y

    def _feed_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(F.relu(self.expand(x)))
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
        self.observation_space = observation_space
        self.actions = ActionCode.of(action_space, bins=config.action_bins)
        self.embedding = TokenEmbedding(config, observation_space, self.actions)
        num_tokens = context_length * config.tokens_per_transition
        self.positions = nn.Embedding(num_tokens, config.width) if config.positions == "learned" else None
        self.angles: Tensor
        angles = rotary_angles(num_tokens, config.width // config.heads)
        self.register_buffer("angles", angles, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()
        self.head = self.actions.head(config.width)
        self.apply(self._initialise)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

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

    def encode(self, columns: Mapping[str, Shaped[Tensor, "batch time ..."]]) -> Shaped[Tensor, "batch time ..."]:
        """Return observations, given by the names of a store's columns, as tokens hold them: one array.

        This is where an image is looked at; tokens show the outcome as often as they like.
        """
        encoded: Tensor = self.embedding.encoder(columns)
        return encoded

    def forward(self, tokens: Tokens, cache: Cache | None = None) -> Float[Tensor, "batch time values"]:
        """Return the logits of the action at every transition.

        With a cache, tokens follow those already in it: either the cache is empty, or one transition comes at a time.
        """
        start = cache.length if cache is not None else 0
        assert start == 0 or tokens.episode_start.shape[1] == 1
        with torch.autocast(tokens.episode_start.device.type, enabled=False):
            x = self.embedding(tokens)
        stop = start + x.shape[1]
        if self.positions is not None:
            x = x + self.positions.weight[start:stop]
        x = self.dropout(x)
        angles = self.angles[:, start:stop] if self.positions is None else None
        for block in self.blocks:
            x = block(x, angles, cache)
        if cache is not None:
            cache.length = stop
        per_transition = self.config.tokens_per_transition
        with torch.autocast(tokens.episode_start.device.type, enabled=False):
            logits: Tensor = self.head(self.norm(x[:, per_transition - 1 :: per_transition].float()))
            return logits
