"""What `lockstep.py --jax` compares with: PPO learners on Dark Room by JAX, one program by jit and vmap.

Networks (64x64 tanh, policy and value apart), minibatches, losses and optimiser are those of Stable-Baselines3's PPO;
nothing is recorded, and numbers are drawn by JAX. jax, jaxlib, ml_dtypes, opt_einsum and scipy have to be installed.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SIZE, EPISODE_STEPS, NUM_ACTIONS = 9, 20, 5
GAMMA, GAE_LAMBDA, CLIP, VF_COEF, MAX_GRAD_NORM = 0.99, 0.95, 0.2, 0.5, 0.5
LEARNING_RATE, BETAS, EPSILON = 3e-4, (0.9, 0.999), 1e-5
MOVES = jnp.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])


class Settings(NamedTuple):
    """How long a rollout is, and how it is learned from."""

    num_streams: int
    n_steps: int
    batch_size: int
    n_epochs: int


class Learner(NamedTuple):
    """All that one learner is."""

    params: Any
    mean: Any
    square: Any
    num_steps: Any
    positions: Any
    elapsed: Any
    goal: Any
    key: Any


def initial(key: Any, goal: Any, *, settings: Settings) -> Learner:
    """Return a learner before its first step."""
    keys = jax.random.split(key, 7)

    def mlp(keys: Any, out: int, gain: float) -> Any:
        sizes = [(2 * SIZE, 64, 2**0.5), (64, 64, 2**0.5), (64, out, gain)]
        return [
            (jax.nn.initializers.orthogonal(gain)(each, (rows, columns)), jnp.zeros(columns))
            for each, (rows, columns, gain) in zip(keys, sizes, strict=True)
        ]

    params = {"policy": mlp(keys[:3], NUM_ACTIONS, 0.01), "value": mlp(keys[3:6], 1, 1.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    starts = jnp.full((settings.num_streams, 2), SIZE // 2, jnp.int32)
    elapsed = jnp.zeros(settings.num_streams, jnp.int32)
    return Learner(params, zeros, zeros, jnp.zeros((), jnp.int32), starts, elapsed, goal, keys[6])


def features(positions: Any) -> Any:
    """Return two one-hot vectors side by side."""
    return jax.nn.one_hot(positions, SIZE).reshape(*positions.shape[:-1], 2 * SIZE)


def forward(layers: Any, value: Any) -> Any:
    """Return what a network's head gives."""
    for weight, bias in layers[:-1]:
        value = jnp.tanh(value @ weight + bias)
    return value @ layers[-1][0] + layers[-1][1]


def lived(learner: Learner, settings: Settings) -> tuple[Learner, dict[str, Any]]:
    """Live one rollout; return it in rows, time and streams as one axis."""
    params, goal = learner.params, learner.goal

    def step(carry: Any, key: Any) -> Any:
        positions, elapsed = carry
        seen = features(positions)
        logits = forward(params["policy"], seen)
        action = jax.random.categorical(key, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        moved = jnp.clip(positions + MOVES[action], 0, SIZE - 1)
        reward = (moved == goal).all(1).astype(jnp.float32)
        is_end = elapsed + 1 == EPISODE_STEPS
        kept = {
            "seen": seen,
            "action": action,
            "log_prob": log_prob,
            "reward": reward,
            "is_end": is_end,
            "next": features(moved),
        }
        positions = jnp.where(is_end[:, None], SIZE // 2, moved)
        return (positions, jnp.where(is_end, 0, elapsed + 1)), kept

    key, draw = jax.random.split(learner.key)
    carry = (learner.positions, learner.elapsed)
    (positions, elapsed), kept = lax.scan(step, carry, jax.random.split(draw, settings.n_steps))
    kept["value"] = forward(params["value"], kept["seen"])[..., 0]
    following = forward(params["value"], kept.pop("next"))[..., 0]
    kept["reward"] += GAMMA * following * kept["is_end"]  # what the time limit cuts off

    def advantage(carry: Any, step: Any) -> Any:
        following, gained = carry
        delta = step["reward"] + GAMMA * following * ~step["is_end"] - step["value"]
        gained = delta + GAMMA * GAE_LAMBDA * ~step["is_end"] * gained
        return (step["value"], gained), gained

    _, gained = lax.scan(advantage, (following[-1], jnp.zeros_like(following[-1])), kept, reverse=True)
    kept |= {"advantage": gained, "return": gained + kept["value"]}
    rollout = {name: array.reshape(-1, *array.shape[2:]) for name, array in kept.items()}
    return learner._replace(positions=positions, elapsed=elapsed, key=key), rollout


def loss(params: Any, batch: dict[str, Any]) -> Any:
    """Return PPO's loss."""
    log_probs = jax.nn.log_softmax(forward(params["policy"], batch["seen"]))
    log_prob = jnp.take_along_axis(log_probs, batch["action"][:, None], 1)[:, 0]
    ratio = jnp.exp(log_prob - batch["log_prob"])
    scaled = (batch["advantage"] - batch["advantage"].mean()) / (batch["advantage"].std(ddof=1) + 1e-8)
    surrogate = jnp.minimum(ratio * scaled, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * scaled).mean()
    error = forward(params["value"], batch["seen"])[:, 0] - batch["return"]
    return -surrogate + VF_COEF * jnp.square(error).mean()


def stepped(learner: Learner, batch: dict[str, Any]) -> tuple[Learner, None]:
    """Take one step of Adam on a minibatch, the gradient clipped."""
    grads = jax.grad(loss)(learner.params, batch)
    norm = jnp.sqrt(sum(jnp.square(grad).sum() for grad in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda grad: grad * jnp.minimum(1.0, MAX_GRAD_NORM / (norm + 1e-6)), grads)
    count = learner.num_steps + 1
    mean = jax.tree.map(lambda old, grad: BETAS[0] * old + (1 - BETAS[0]) * grad, learner.mean, grads)
    square = jax.tree.map(lambda old, grad: BETAS[1] * old + (1 - BETAS[1]) * grad**2, learner.square, grads)
    rate, width = LEARNING_RATE / (1 - BETAS[0] ** count), jnp.sqrt(1 - BETAS[1] ** count)
    params = jax.tree.map(
        lambda old, first, second: old - rate * first / (jnp.sqrt(second) / width + EPSILON),
        learner.params,
        mean,
        square,
    )
    return learner._replace(params=params, mean=mean, square=square, num_steps=count), None


def updated(learner: Learner, settings: Settings) -> tuple[Learner, Any]:
    """Live one rollout and learn from it; return the mean reward too."""
    learner, rollout = lived(learner, settings)
    key, shuffle = jax.random.split(learner.key)

    def epoch(learner: Learner, key: Any) -> Any:
        order = jax.random.permutation(key, len(rollout["action"])).reshape(-1, settings.batch_size)
        return lax.scan(stepped, learner, {name: array[order] for name, array in rollout.items()})

    learner, _ = lax.scan(epoch, learner._replace(key=key), jax.random.split(shuffle, settings.n_epochs))
    return learner, rollout["reward"].mean()


class JaxLearners:
    """Many learners that learn together."""

    def __init__(self, num_learners: int, settings: Settings) -> None:
        goals = jnp.array(np.random.default_rng(0).integers(SIZE, size=(num_learners, 2)))
        keys = jax.random.split(jax.random.key(0), num_learners)
        self._learners = jax.vmap(partial(initial, settings=settings))(keys, goals)
        self._update = jax.jit(jax.vmap(partial(updated, settings=settings)), donate_argnums=0)
        self.num_steps_each = num_learners * settings.num_streams * settings.n_steps

    def advance(self, num_updates: int) -> float:
        """Do some updates and return the CPU seconds they took; the first call compiles."""
        start = time.process_time()
        for _ in range(num_updates):
            self._learners, self.mean_reward = self._update(self._learners)
        jax.block_until_ready(self._learners.params)
        return time.process_time() - start
