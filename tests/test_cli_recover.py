"""`hist recover` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

from damages import flip_in
from store_samples import small_store

PAGE = Path(__file__).parent / "pages" / "recover-help.txt"


def hist(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hist_cli", *args], capture_output=True, text=True, check=False)


def test_the_help_page_is_the_pinned_one() -> None:
    assert hist("recover", "--help").stdout == PAGE.read_text()


def test_it_lists_what_is_lost_and_json_says_so_alone(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=1, num_streams=1)
    (shard,) = (store.path / "shards").iterdir()
    (learner,) = store.learners
    store.close()
    flip_in(shard, "steps/reward")
    answer = hist("recover", str(store.path), str(tmp_path / "out"))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.splitlines() == [
        f"lost: shards/{shard.name}, learner {learner.id[:12]}, stream 0: steps 32 to 60 are lost: "
        "reward cannot be read there.",
        f"lost: learner {learner.id[:12]}: updates 1 to 3 are lost: they cannot be read, or act from lost steps on.",
        f"{tmp_path / 'out'}: 0 shards carried over, 1 written anew; 2 losses.",
        f"next: hist verify {tmp_path / 'out'}",
    ]
    document = json.loads(hist("recover", str(store.path), str(tmp_path / "again"), "--json").stdout)
    assert (document["num_whole"], document["num_rewritten"]) == (0, 1)
    assert [loss["what"] for loss in document["losses"]] == ["steps", "updates"]
    assert hist("verify", str(tmp_path / "out")).returncode == 0
