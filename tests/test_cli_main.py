"""The root of the `hist` command: light, tellable and honest about mistakes."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "stable_baselines3", "matplotlib", "pandas")


def hist(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hist_cli", *args], capture_output=True, text=True, check=False)


def loaded_after(code: str) -> set[str]:
    report = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize("module", ["historystore", "historystore.windows", "historystore.tasks"])
def test_importing_the_store_loads_neither_torch_nor_sb3(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


def test_the_import_check_sees_torch_when_it_is_loaded() -> None:
    assert "torch" in loaded_after("import historystore.torch")


def test_help_loads_neither_torch_nor_sb3() -> None:
    code = "import sys\nsys.argv = ['hist', '--help']\nimport hist_cli\ntry: hist_cli.main()\nexcept SystemExit: pass"
    assert loaded_after(code) == set()


def test_every_command_of_the_help_page_has_a_help_page_of_its_own() -> None:
    page = hist("--help").stdout
    names = re.findall(r"^  (\w+)  ", page[page.index("Commands:") :], re.MULTILINE)
    assert names == [
        *("record", "inspect", "convert", "verify", "recover", "filter", "split", "merge", "compact", "diff"),
        *("train", "evaluate", "import", "export", "migrate", "schema"),
    ]
    for name in names:
        answer = hist(name, "--help")
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.startswith(f"Usage: python -m hist_cli {name}"), answer.stdout


@pytest.mark.parametrize("group", [(), ("schema",)])
def test_without_a_command_the_help_page_is_the_answer(group: tuple[str, ...]) -> None:
    answer = hist(*group)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == hist(*group, "--help").stdout


def test_an_unknown_command_is_one_line_and_exit_code_2() -> None:
    answer = hist("recrod")
    assert answer.returncode == 2
    assert "No such command 'recrod'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_console_script_is_hist() -> None:
    (script,) = [e for e in distribution("historystore").entry_points if e.group == "console_scripts"]
    assert (script.name, script.value) == ("hist", "hist_cli:main")


def test_the_wheel_holds_every_module_of_the_tree_and_no_package_called_cli(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("historystore", "distill", "cli"):
        shutil.copytree(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("historystore-*.whl")
    packed = {n for n in zipfile.ZipFile(wheel).namelist() if n.endswith((".py", "py.typed"))}
    folders = {"historystore": "historystore", "distill": "distill", "cli": "hist_cli"}
    tree = {
        str(Path(package) / path.relative_to(ROOT / folder))
        for folder, package in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert packed == tree
