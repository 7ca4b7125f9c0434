"""The task families: Gymnasium environments, their batched twins, and what is known exactly about each task.

Importing this package registers the environments, so `gymnasium.make("historystore.tasks:historystore/DarkRoom-v0",
goal=(3, 4))` works without any other import.
"""

from historystore.tasks.protocol import BatchedEnv, Family, Task
from historystore.tasks.registry import families, family, find, register

__all__ = ["BatchedEnv", "Family", "Task", "families", "family", "find", "register"]

register()
