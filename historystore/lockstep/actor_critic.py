"""Policy and value networks of many learners, as Stable-Baselines3's ActorCriticPolicy has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float32
from torch import Tensor

from historystore.lockstep.layout import Layout
from historystore.lockstep.mlp import Mlp, StackedMlp
from historystore.lockstep.scratch import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCritic:
    """Where the two networks lie in a learner's row."""

    layout: Layout
    policy: Mlp
    value: Mlp

    @classmethod
    def of(cls, layout: Layout, *, num_hidden: Mapping[str, int], activation_name: str) -> ActorCritic:
        """Find the networks in the layout of a policy; `num_hidden` counts the hidden layers of `pi` and `vf`."""

        def mlp(name: str, head: str, count: int) -> Mlp:
            hidden = [f"mlp_extractor.{name}.{2 * index}" for index in range(count)]  # activations stand in between
            return Mlp.of(layout, hidden=hidden, head=head, activation_name=activation_name)

        return cls(
            layout=layout,
            policy=mlp("policy_net", "action_net", num_hidden["pi"]),
            value=mlp("value_net", "value_net", num_hidden["vf"]),
        )

    def on(
        self,
        rows: Float32[Tensor, "learners width"],
        scratch: Scratch,
        *,
        grads: Float32[Tensor, "learners width"] | None = None,
    ) -> StackedActorCritic:
        """Return the networks of the learners of `rows`, computing in `scratch`; gradients go to `grads`."""
        return StackedActorCritic(
            policy=self.policy.on(rows, scratch, grads=grads), value=self.value.on(rows, scratch, grads=grads)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedActorCritic:
    """Both networks of the learners of some rows."""

    policy: StackedMlp
    value: StackedMlp


def chunks(num_learners: int, *, size: int) -> list[range]:
    """Return even ranges of at most `size` learners: all that one of them needs stays in the processor's cache."""
    num_chunks = -(-num_learners // size)
    bounds = [num_learners * index // num_chunks for index in range(num_chunks + 1)]
    return [range(start, stop) for start, stop in pairwise(bounds)]
