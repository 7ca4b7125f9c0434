"""No bytes crash the process, raise another error than ours, or are read as what nobody wrote."""

import os
import subprocess
import sys
from pathlib import Path

NUM_EXAMPLES = int(os.environ.get("HISTORYSTORE_FUZZ_EXAMPLES", "60"))
"""Of each parser; a nightly run may give it hours."""


def test_every_parser_of_foreign_bytes_refuses_them_or_reads_what_was_written() -> None:
    script = Path(__file__).with_name("fuzzing.py")
    command = [sys.executable, "-X", "faulthandler", str(script), "--examples", str(NUM_EXAMPLES)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    lines = [line.rpartition(": ") for line in answer.stdout.splitlines()]
    assert {name.partition(",")[0].partition(" value")[0] for name, _, _ in lines} == {
        "shard", "index", "store.json", "card", "checkpoint", "checkpoint's file", "packed"
    }  # fmt: skip
    assert all(int(num_tries) > NUM_EXAMPLES / 2 for _, _, num_tries in lines)
