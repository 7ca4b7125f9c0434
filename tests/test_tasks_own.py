"""A family from a user's module: what it must offer, and the one line for each thing that is wrong with it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from historystore.errors import InvalidValue
from historystore.tasks import Family, family

HEAD = """
import gymnasium as gym
import numpy as np


class Door(gym.Env):
    def __init__(self, door, length=5):
        self.door = door
        self.observation_space = gym.spaces.Discrete(length)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 2
        return self.place, {}

    def step(self, action):
        self.place = min(max(self.place + 2 * int(action) - 1, 0), 4)
        return self.place, float(self.place == self.door), False, False, {}


class Doors:
    max_episode_steps = 6
    version = 3

    def __init__(self, num_doors=5, *, label="x"):
        self.num_doors = num_doors

    def tasks(self):
        return [{"door": door} for door in range(self.num_doors)]

    def make(self, task):
        return Door(**task)

    def best_return(self, task):
        return 6 if task["door"] == 2 else None


class Endless:
    def draw_task(self, generator):
        return {"door": int(generator.integers(5))}

    def make(self, task):
        return Door(**task)

    def draw_episode(self, task, observations, actions, rewards):
        return f"door {task['door']}"
"""
_names = itertools.count()


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module of its own name into the current directory and return what refers to it."""
    monkeypatch.chdir(tmp_path)

    def write(code: str = "") -> str:
        module = f"own_family_{next(_names)}"
        (tmp_path / f"{module}.py").write_text(HEAD + code)
        return module

    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return write


def test_a_plain_class_with_tasks_and_make_is_a_family(written) -> None:
    reference = f"{written()}:Doors"
    known = family(reference, {"num_doors": 4, "label": "x"})
    assert isinstance(known, Family)
    assert (known.name, known.version, known.args, known.arguments) == (
        reference,
        3,
        {"num_doors": 4},
        ("num_doors", "label"),
    )
    assert known.tasks() == [{"door": 0}, {"door": 1}, {"door": 2}, {"door": 3}]
    assert sorted(known.task_of_seed(seed)["door"] for seed in range(8, 12)) == [0, 1, 2, 3]
    assert (known.best_return({"door": 2}), known.best_return({"door": 1}), known.random_return({"door": 1})) == (
        6.0,
        None,
        None,
    )
    assert (known.max_episode_steps, known.is_batched) == (6, False)
    twin = known.make_batched(known.tasks())
    assert twin.reset().tolist() == [2, 2, 2, 2]
    for _ in range(6):
        obs, reward, terminated, truncated = twin.step(np.zeros(4, np.int64))
    assert (obs.tolist(), reward.tolist()) == ([0, 0, 0, 0], [1.0, 0.0, 0.0, 0.0])
    assert (terminated.any(), truncated.all()) == (False, True)


def test_endless_tasks_are_drawn_from_the_seed_alone(written) -> None:
    known = family(f"{written()}:Endless")
    assert (known.num_tasks, known.tasks(), known.max_episode_steps) == (0, [], None)
    drawn = [known.task_of_seed(seed) for seed in range(20)]
    assert drawn == [known.task_of_seed(seed) for seed in range(20)]
    assert len({task["door"] for task in drawn}) > 2
    assert known.draw_episode({"door": 1}, np.zeros(1), np.zeros(1), np.zeros(1)) == "door 1"


def test_a_class_that_steps_many_environments_itself_is_asked_to(written) -> None:
    module = written(
        "class Fast(Doors):\n"
        "    def make_batched(self, tasks):\n"
        "        from historystore.tasks.looped import LoopedEnvs\n"
        "        return LoopedEnvs(self.make, tasks)\n"
        "class Wrong(Doors):\n"
        "    def make_batched(self, tasks):\n"
        "        return list(tasks)\n"
        "class Few(Fast):\n"
        "    def make_batched(self, tasks):\n"
        "        return super().make_batched(tasks[:1])\n"
    )
    fast = family(f"{module}:Fast")
    assert fast.is_batched
    assert fast.make_batched(fast.tasks()[:2]).num_envs == 2
    with pytest.raises(InvalidValue, match=r"Wrong: make_batched gives a list, expected what .*BatchedEnv lists"):
        family(f"{module}:Wrong").make_batched([{"door": 1}])
    with pytest.raises(InvalidValue, match=r"Few: make_batched gives 1 environments that show .*, expected 2 environ"):
        family(f"{module}:Few").make_batched([{"door": 1}, {"door": 2}])


def test_an_argument_may_have_any_name(written) -> None:
    module = written(
        "class Named(Doors):\n    def __init__(self, where=1, function=2):\n        self.num_doors = where\n"
    )
    assert family(f"{module}:Named", {"where": 3, "function": 5}).num_tasks == 3


CLASSES = """
class NoMake:
    def tasks(self): return [{}]
class NoTasks:
    def make(self, task): return Door(0)
class Raises(Doors):
    def tasks(self): raise KeyError("no file")
class Empty(Doors):
    def tasks(self): return []
class Arrays(Doors):
    def tasks(self): return [{"door": np.int64(3)}]
class Nan(Doors):
    def tasks(self): return [{"door": float("nan")}]
class Keys(Doors):
    def tasks(self): return [{3: 4}]
class Texts(Doors):
    def tasks(self): return ["left"]
class Twice(Doors):
    def tasks(self): return [{"door": 1}, {"door": 2}, {"door": 1}]
class NoEnv(Doors):
    def make(self, task): return task
class Spaces(Doors):
    def make(self, task): return Door(task["door"], length=5 + task["door"])
class Text(Doors):
    def best_return(self, task): return "high"
class Unknown(Doors):
    def random_return(self, task): return float("nan")
class Divides(Doors):
    def best_return(self, task): return 1 / 0
class Later(Doors):
    def best_return(self, task): return None if task["door"] == 0 else "high"
class Named(Doors):
    version = "new"
class Limit(Doors):
    max_episode_steps = 0
class Half(Doors):
    max_episode_steps = 2.5
class Old(Doors):
    def make(self, task):
        env = Door(**task)
        env.step = lambda action: (0, 0.0, False, {})
        return env
class Older(Old):
    max_episode_steps = None
    def make(self, task):
        env = super().make(task)
        env.reset = lambda seed=None, options=None: 2
        return env
class Wide(Doors):
    def make(self, task): return Door(**task, length=2)
class Fragile(Doors):
    def make(self, task):
        env = Door(**task)
        del env.door
        return env
class Loose(Endless):
    def draw_task(self, generator): return {"door": np.random.default_rng().random()}
class Init(Doors):
    def __init__(self, size=1): raise ValueError("size is odd")
a_function = print
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("NoMake", "{m}:NoMake: the class lacks make(task), expected the methods of a family. "),
        ("NoTasks", "{m}:NoTasks: the class lacks tasks() or draw_task(generator), expected the methods of a family. "),
        ("Door", "{m}:Door: the class lacks make(task) and tasks() or draw_task(generator), expected "),
        ("Raises", "{m}:Raises.tasks: raises KeyError: 'no file', expected a result. Correct it."),
        ("Empty", "{m}:Empty: tasks() gives [], expected a list of at least one dict. "),
        ("Arrays", "{m}:Arrays: {{'door': np.int64(3)}} is no task, expected a dict of JSON values "),
        ("Nan", "{m}:Nan: {{'door': nan}} is no task, expected a dict of JSON values "),
        ("Keys", "{m}:Keys: {{3: 4}} is no task, expected a dict of JSON values under text keys "),
        ("Texts", "{m}:Texts: 'left' is no task, expected a dict of JSON values "),
        ("Twice", '{m}:Twice: tasks() lists {{"door": 1}} twice, expected each task once. Remove one.'),
        ("NoEnv", "{m}:NoEnv: make(task) gives a dict, expected a gymnasium.Env. Return the environment."),
        ("Loose", "{m}:Loose: draw_task gives {{'door': 0."),
        ("Init", "{m}:Init: raises ValueError: size is odd, expected a result. Correct it."),
        ("Text", "{m}:Text: best_return gives 'high', expected a finite number or None. Correct it."),
        ("Unknown", "{m}:Unknown: random_return gives nan, expected a finite number or None. Correct it."),
        ("Divides", "{m}:Divides.best_return: raises ZeroDivisionError: division by zero, expected a result. "),
        ("Named", "{m}:Named: version is 'new', expected a whole number above 0. Correct it."),
        ("Limit", "{m}:Limit: max_episode_steps is 0, expected a whole number above 0. Correct it."),
        ("Half", "{m}:Half: max_episode_steps is 2.5, expected a whole number above 0. Correct it."),
        ("Old", "{m}:Old.make(task).step: raises ValueError: not enough values to unpack (expected 5, got 4), "),
        ("Older", "{m}:Older: reset gives 2, expected (observation, info). Return these two."),
        ("Wide", "{m}:Wide: reset shows 2, expected an observation of Discrete(2). Correct it, or the space."),
        ("Fragile", "{m}:Fragile.make(task).step: raises AttributeError: 'Door' object has no attribute 'door', "),
        ("Missing", "env: module {m} has no class 'Missing', expected one that offers a family's methods, got "),
        ("a_function", "env: module {m} has no class 'a_function', expected one that offers a family's methods, got "),
    ],
)
def test_what_is_wrong_with_a_family_is_one_line(name: str, line: str, written) -> None:
    module = written(CLASSES)
    with pytest.raises(InvalidValue) as refusal:
        family(f"{module}:{name}")
    assert str(refusal.value).startswith(line.format(m=module))
    assert "\n" not in str(refusal.value)


def test_tasks_with_other_spaces_and_returns_that_are_no_numbers_are_refused_when_asked_for(written) -> None:
    module = written(CLASSES)
    with pytest.raises(
        InvalidValue, match=r"Spaces: task \{'door': 3\} has other spaces than the first task, expected"
    ):
        family(f"{module}:Spaces").make({"door": 3})
    with pytest.raises(InvalidValue, match=r"Later: best_return gives 'high', expected a finite number or None\."):
        family(f"{module}:Later").best_return({"door": 1})


def test_an_unknown_argument_and_a_module_that_fails_are_one_line(written) -> None:
    module = written()
    with pytest.raises(InvalidValue) as refusal:
        family(f"{module}:Doors", {"size": 3})
    assert str(refusal.value) == (
        f"--env-arg: {module}:Doors has no argument 'size', expected num_doors, label. Check the name."
    )
    broken = written("import a_package_nobody_has\n")
    with pytest.raises(InvalidValue, match=f"module {broken} cannot be imported, ModuleNotFoundError: No module named"):
        family(f"{broken}:Doors")
    worse = written("1 / 0\n")
    with pytest.raises(InvalidValue, match=f"module {worse} cannot be imported, ZeroDivisionError: division by zero"):
        family(f"{worse}:Doors")


def test_nothing_but_a_class_with_a_familys_methods_is_called(written, tmp_path: Path) -> None:
    """Also where a reference comes from a store that somebody else made."""
    module = written("class Trap:\n    def __init__(self, path='trap'):\n        open(path, 'w').close()\n")
    for name in ("Trap", "gym", "np"):
        with pytest.raises(InvalidValue):
            family(f"{module}:{name}", {"path": str(tmp_path / "trap")})
    assert not (tmp_path / "trap").exists()
