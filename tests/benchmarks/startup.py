"""How long `hist --help` takes beside a bare interpreter that imports click: python tests/benchmarks/startup.py."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15


def seconds(*command: str) -> float:
    """Run one command and return its wall time."""
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Alternate both commands and print their medians and the ratio."""
    bare, full = [], []
    for _ in range(ROUNDS):
        bare.append(seconds(sys.executable, "-c", "import click"))
        full.append(seconds(sys.executable, "-m", "hist_cli", "--help"))
    baseline, ours = statistics.median(bare), statistics.median(full)
    print(f"python -c 'import click'  {baseline * 1e3:6.0f} ms")
    print(f"hist --help               {ours * 1e3:6.0f} ms   {ours / baseline:.2f}x the baseline")


if __name__ == "__main__":
    main()
