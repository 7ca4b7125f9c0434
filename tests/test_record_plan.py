"""Seeds, hyperparameters and plans: resolved, or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from historystore.errors import InvalidValue, NotAStore
from historystore.recording import plan_recording
from historystore.recording.algorithms import algorithm, algorithm_of_spec
from historystore.recording.crew import groups_of
from historystore.recording.hyperparameters import parse_assignment, resolve_hyperparameters
from historystore.recording.plan import spec_of_seed
from historystore.recording.signature import signature
from historystore.seeds import parse_seeds
from historystore.tasks import families


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", [7]),
        ("0-3", [0, 1, 2, 3]),
        ("0-2,205,300-301", [0, 1, 2, 205, 300, 301]),
        ("300-301, 0-2 ,205", [0, 1, 2, 205, 300, 301]),
        ("0-5,3-7,7,7", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_seeds_are_inclusive_ranges_each_seed_once_in_order(text, expected):
    seeds = parse_seeds(text)
    assert list(seeds) == expected
    assert len(seeds) == len(expected)
    assert all(seed in seeds for seed in expected)
    assert max(expected) + 1 not in seeds
    assert parse_seeds(str(seeds)) == seeds == parse_seeds(expected)


def test_a_billion_seeds_cost_as_little_as_one():
    started = time.perf_counter()
    seeds = parse_seeds("0-999999999,2000000000")
    assert (len(seeds), 999_999_999 in seeds, 1_000_000_000 in seeds) == (1_000_000_001, True, False)
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("3-1", "seeds: a range goes from low to high, got 3-1. Write 1-3."),
        ("1,,2", "seeds: expected ranges like 0-99,205, got '' in '1,,2'. Write A-B or N."),
        ("", "seeds: expected ranges like 0-99,205, got '' in ''. Write A-B or N."),
        ("one", "seeds: expected ranges like 0-99,205, got 'one' in 'one'. Write A-B or N."),
        ("-3", "seeds: expected ranges like 0-99,205, got '-3' in '-3'. Write A-B or N."),
        ("4294967296", "seeds: a seed lies between 0 and 4294967295, got 4294967296. Choose smaller ones."),
        ([], "seeds: none given, expected at least one. Name them like '0-99,205'."),
    ],
)
def test_bad_seeds_get_one_line(text, line):
    with pytest.raises(InvalidValue) as refusal:
        parse_seeds(text)
    assert str(refusal.value) == line


def test_the_signatures_read_from_the_source_are_the_constructors():
    """Held against another process, so that this one stays without torch."""
    code = (
        "import inspect, json, stable_baselines3 as sb3, sb3_contrib\n"
        "contrib = [sb3_contrib.RecurrentPPO, sb3_contrib.TRPO, sb3_contrib.QRDQN]\n"
        "for algorithm in (sb3.PPO, sb3.A2C, sb3.DQN, sb3.SAC, sb3.TD3, sb3.DDPG, *contrib):\n"
        "    parameters = inspect.signature(algorithm.__init__).parameters\n"
        "    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}\n"
        "    print(json.dumps([algorithm.__name__, defaults, list(algorithm.policy_aliases)]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left_out = {"seed", "device", "verbose", "tensorboard_log", "stats_window_size", "_init_setup_model"}
    for name, defaults, policies in map(json.loads, answer.stdout.splitlines()):
        known = signature(algorithm_of_spec(name))
        hyperparameters = {key: parameter.default for key, parameter in known.parameters.items()}
        settable = {key for key in defaults if key not in left_out and not key.endswith("_class")}
        assert hyperparameters == {key: defaults[key] for key in settable}
        assert list(known.policies) == policies


def test_two_ways_to_write_a_value_name_the_same_learner(tmp_path):
    specs = [
        plan_recording("ppo", "darkroom", 0, out=tmp_path, set=dict([parse_assignment(text)])).template
        for text in ("gamma=1", "gamma=1.0", "gamma=1e0")
    ]
    assert len({spec.id for spec in specs}) == 1
    assert specs[0].id != plan_recording("ppo", "darkroom", 0, out=tmp_path).template.id


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("gamma", "--set: expected name=value, got 'gamma'. Write it like --set learning_rate=1e-3."),
        ("gamma=x", '--set gamma: A2C takes a finite number, got "x". Change the value.'),
        ("gamma=NaN", "--set gamma: A2C takes a finite number, got NaN. Change the value."),
        ("n_steps=1.5", "--set n_steps: A2C takes an integer, got 1.5. Change the value."),
        ("use_sde=1", "--set use_sde: A2C takes true or false, got 1. Change the value."),
        ("n_steps=true", "--set n_steps: A2C takes an integer, got true. Change the value."),
        ("policy_kwargs=3", "--set policy_kwargs: A2C takes a JSON object or null, got 3. Change the value."),
        (
            "gama=1",
            "--set: A2C has no hyperparameter 'gama', expected one of ent_coef, gae_lambda, gamma, learning_rate, "
            "max_grad_norm, n_steps, normalize_advantage, policy_kwargs, rms_prop_eps, rollout_buffer_kwargs, "
            "sde_sample_freq, use_rms_prop, use_sde, vf_coef. Check the name.",
        ),
        ("seed=3", None),
        ("device=cuda", None),
    ],
)
def test_bad_hyperparameters_get_one_line(assignment, line):
    with pytest.raises(InvalidValue) as refusal:
        resolve_hyperparameters(signature(algorithm("a2c")), {}, dict([parse_assignment(assignment)]))
    assert line is None or str(refusal.value) == line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"env": "bright"},
            f"env: nothing is called 'bright', expected one of {', '.join(families())}, a Gymnasium id such as "
            "CartPole-v1, or a class of your own such as my_package:MyFamily. Check the name.",
        ),
        ({"steps": 0}, "--steps: expected a number above 0, got 0. Leave it out or choose a larger one."),
        ({"workers": -1}, "--workers: expected a number above 0, got -1. Leave it out or choose a larger one."),
        (
            {"policy": "LstmPolicy"},
            "--policy: PPO has no policy 'LstmPolicy', expected one of MlpPolicy, CnnPolicy, MultiInputPolicy. "
            "Check the name.",
        ),
        (
            {"fields": ["val"]},
            "fields: no step field is called 'val', expected some of log_prob, value, raw_action, "
            "source_observation, info/<key> (observation, action, reward, terminated, truncated are always recorded). "
            "Check the name.",
        ),
        (
            {"fields": ["value", "info"]},
            "fields: no step field is called 'info', expected some of log_prob, value, raw_action, "
            "source_observation, info/<key> (observation, action, reward, terminated, truncated are always recorded). "
            "Check the name.",
        ),
        (
            {"seeds": "0-1000000"},
            "seeds: at most 1,000,000 learners in one recording, got 1,000,001. "
            "Record them in several ranges into the same store.",
        ),
    ],
)
def test_bad_options_get_one_line(options, line, tmp_path):
    with pytest.raises(InvalidValue) as refusal:
        plan_recording(**{"algo": "ppo", "env": "darkroom", "seeds": 0, "out": tmp_path, **options})
    assert str(refusal.value) == line


def test_an_unknown_algorithm_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InvalidValue, match=r"'ppoo'.*a2c, ddpg, dqn, .*Did you mean ppo\?"):
        plan_recording("ppoo", "darkroom", 0, out=tmp_path)


def test_a_directory_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotAStore):
        plan_recording("ppo", "darkroom", 0, out=tmp_path)


@pytest.mark.parametrize(
    ("algo", "settings", "asked", "lived"),
    [
        ("ppo", {"n_steps": 50}, 400, 400),
        ("ppo", {"n_steps": 50}, 401, 500),
        ("a2c", {"n_steps": 7}, 1, 14),
        ("dqn", {"train_freq": 4}, 9, 16),
        ("dqn", {"train_freq": [3, "step"]}, 9, 12),
        ("dqn", {"train_freq": [1, "episode"]}, 9, 9),
    ],
)
def test_steps_are_rounded_up_to_whole_rollouts_of_all_streams(algo, settings, asked, lived, tmp_path):
    plan = plan_recording(algo, "darkroom", 0, out=tmp_path, steps=asked, streams=2, set=settings)
    assert (plan.template.num_steps, plan.num_steps_asked) == (lived, asked)


@pytest.mark.parametrize(
    ("algo", "env", "streams", "n_steps"),
    [
        ("ppo", "dark-key-to-door", 1, 400),
        ("ppo", "dark-key-to-door", None, 25),
        ("ppo", "darkroom", 8, 50),
        ("ppo", "darkroom", 1000, 1),
        ("a2c", "darkroom", 3, 26),
        ("dqn", "darkroom", 2, 1),
    ],
)
def test_a_presets_rollouts_hold_as_many_steps_whatever_the_number_of_streams(algo, env, streams, n_steps, tmp_path):
    def planned(**changes):
        return plan_recording(algo, env, 0, out=tmp_path, streams=streams, **changes).template.hyperparameters

    assert planned()["n_steps"] == n_steps
    assert planned(set={"n_steps": 7})["n_steps"] == 7


def test_a_plan_gives_every_learner_the_task_of_its_seed_and_writes_nothing(tmp_path):
    plan = plan_recording("ppo", "darkroom", "0-161", out=tmp_path / "new")
    goals = [tuple(spec_of_seed(plan.template, seed).task["goal"]) for seed in plan.todo]
    assert len(set(goals[:81])) == 81
    assert goals[:81] == goals[81:]
    assert (plan.num_added, plan.num_retried, plan.num_skipped) == (162, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_planning_loads_neither_torch_nor_stable_baselines3():
    code = (
        "import sys\nfrom historystore.recording import plan_recording\n"
        "plan_recording('ppo', 'darkroom', '0-9', out='/nonexistent/x')\n"
        "print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_store_whose_making_was_cut_short_is_made_by_the_same_command(tmp_path):
    (tmp_path / "s" / "shards").mkdir(parents=True)
    (tmp_path / "s" / ".host-1-0123456789abcdef.tmp").touch()
    plan = plan_recording("ppo", "darkroom", "0-2", out=tmp_path / "s")
    assert plan.num_added == 3


def test_an_argument_of_the_family_makes_another_learner_and_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = plan_recording("ppo", "darkroom", "0-2")
    same = plan_recording("ppo", "darkroom", "0-2", env_args={"size": 9})
    large = plan_recording("ppo", "darkroom", "0-2", env_args={"size": 13})
    assert (str(plain.place), str(large.place)) == ("darkroom-ppo", "darkroom-size-13-ppo")
    assert (plain.template.env_args, same.template.env_args, large.template.env_args) == ({}, {}, {"size": 13})
    goals = {tuple(spec_of_seed(large.template, seed).task["goal"]) for seed in range(169)}
    assert goals == {(x, y) for x in range(13) for y in range(13)}


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ({"sise": 13}, "--env-arg: darkroom has no argument 'sise', expected size, max_episode_steps. Check the name."),
        ({"size": "13"}, '--env-arg size: darkroom takes a whole number, got "13". Change the value.'),
        ({"size": True}, "--env-arg size: darkroom takes a whole number, got true. Change the value."),
        ({"size": 1}, "--env-arg size: expected 2 to 101 cells a side, got 1. Change the value."),
    ],
)
def test_bad_arguments_of_a_family_get_one_line(args, line):
    with pytest.raises(InvalidValue) as refusal:
        plan_recording("ppo", "darkroom", "0", env_args=args)
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("num_seeds", "size", "num_workers", "lengths"),
    [(5, 1, 2, [1] * 5), (324, 256, 2, [162, 162]), (600, 256, 2, [200] * 3), (3, 256, 8, [1] * 3), (1, 64, 1, [1])],
)
def test_learners_are_dealt_in_even_groups_enough_for_every_worker(num_seeds, size, num_workers, lengths):
    groups = groups_of(range(num_seeds), size=size, num_workers=num_workers)
    assert [len(group) for group in groups] == lengths
    assert [seed for group in groups for seed in group] == list(range(num_seeds))
