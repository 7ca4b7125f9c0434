"""The dataset card: a page over scripted learners, and nothing in it that could not be derived again."""

import re
from pathlib import Path

from darkroom_learners import darkroom_store

import historystore as hs
from historystore.card import is_card_whole, write_card

PAGE = Path(__file__).parent / "pages" / "card.md"


def lasting(text: str) -> str:
    """Take out what differs from run to run: times, sizes, and so the digest of the text."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+", "TIME", text)
    text = re.sub(r"[\d,]+ bytes", "SIZE", text)
    return re.sub(r"sha256 [0-9a-f]{64}", "sha256 DIGEST", text)


def test_the_card_is_the_page_that_it_was(tmp_path: Path) -> None:
    path = write_card(hs.open(darkroom_store(tmp_path / "darkroom-ppo")))
    assert path == tmp_path / "darkroom-ppo" / "README.md"
    assert lasting(path.read_text()) == PAGE.read_text()


def test_the_same_store_has_the_same_card(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    first = write_card(store).read_bytes()
    assert write_card(hs.open(store.path)).read_bytes() == first


def test_a_card_knows_when_it_was_changed(tmp_path: Path) -> None:
    data = write_card(hs.open(darkroom_store(tmp_path / "store"))).read_bytes()
    assert is_card_whole(data)
    for changed in (data[:-1], data + b"\n", data.replace(b"PPO", b"PPo", 1), b"", b"<!-- mine -->\n"):
        assert not is_card_whole(changed)
