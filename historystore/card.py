"""The dataset card: `README.md` in a store, derived from it, with a digest of its own text in the last line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from historystore.curves import Curve
from historystore.documents import canonical_json, sha256_hex
from historystore.fields import STEP_FIELDS
from historystore.store import Store
from historystore.summary import StoreSummary, store_summary

CARD = "README.md"
_FOOTER = "<!-- Derived from the store and rewritten with it: keep notes in another file. sha256 {digest} -->\n"
_NUM_CURVE_ROWS = 10


def write_card(store: Store) -> Path | str:
    """Write a store's card, unless it is there, and return where; an old card stays until the new one is whole.

    Raises:
        WriteFailed: the disk or server refused.
    """
    text = card(store_summary(store))
    if not store.place.exists(CARD) or store.place.read(CARD) != text:
        store.place.replace(CARD, text)
    return store.place.at(CARD)


def card(store: StoreSummary) -> bytes:
    """Render the card of a store: the same summary gives the same bytes."""
    blocks = [_HEAD, _opening(store), _counts(store), _learning(store), _fields(store), _loading(store), _origin(store)]
    text = "\n\n".join(block for block in blocks if block) + "\n\n"
    return text.encode() + _FOOTER.format(digest=sha256_hex(text.encode())).encode()


def is_card_whole(data: bytes) -> bool:
    """Whether a card's text is what its last line says."""
    text, _, _ = data.rpartition(b"<!-- ")
    return data == text + _FOOTER.format(digest=sha256_hex(text)).encode()


_HEAD = "---\ntags:\n- reinforcement-learning\n- learning-histories\n- historystore\n---"


def _opening(store: StoreSummary) -> str:
    algorithms = ", ".join(store.algorithms) or "no algorithm yet"
    total = store.learners.complete + store.learners.partial + store.learners.failed
    return (
        f"# {_name(store)}\n\nThe whole training histories of {total:,} reinforcement learners ({algorithms}) on "
        f"{store.num_tasks:,} tasks of the family `{store.family}`: every step that they took while they learned."
    )


def _counts(store: StoreSummary) -> str:
    ended = store.convergence
    rows = [
        ("learners", f"{store.learners.complete:,} complete, {store.learners.partial:,} partial, "
                     f"{store.learners.failed:,} failed"),
        ("histories", f"{store.num_histories:,}"),
        ("episodes", f"{store.num_episodes:,}"),
        ("steps", f"{store.num_steps:,}"),
        ("shards", f"{store.num_shards:,}, {store.num_bytes:,} bytes"),
    ]  # fmt: skip
    if ended.num_known:
        label = f"reached {ended.share_of_best:.0%} of their task's best return"
        rows.append((label, f"{ended.num_reached:,} of {ended.num_known:,} learners"))
    rows += [("format", store.format_version), ("digest", f"`{store.digest}`")]
    return _table(("", ""), rows)


def _learning(store: StoreSummary) -> str:
    curve = store.curve
    if curve is None:
        return ""
    header = ("share of training", "lower quartile", "median", "upper quartile")
    return "## Return along training\n\n" + _table(header, [_curve_row(curve, row) for row in _rows(curve)])


def _rows(curve: Curve) -> list[int]:
    """Return the bins to show: at most ten, evenly apart, the last one included."""
    num_bins = len(curve.median)
    num_rows = min(_NUM_CURVE_ROWS, num_bins)
    return [(row + 1) * num_bins // num_rows - 1 for row in range(num_rows)]


def _curve_row(curve: Curve, row: int) -> tuple[str, ...]:
    values = (curve.lower_quartile[row], curve.median[row], curve.upper_quartile[row])
    return f"{(row + 1) / len(curve.median):.0%}", *("" if value is None else f"{value:.2f}" for value in values)


def _fields(store: StoreSummary) -> str:
    rows = [
        (
            f"`{field.name}`",
            np.dtype(field.dtype).name,
            str(list(field.shape)),
            STEP_FIELDS.get(field.name.split("/")[0], ""),
        )
        for field in store.fields
    ]
    return "## Fields of a step\n\n" + _table(("field", "dtype", "shape", "meaning"), rows)


def _loading(store: StoreSummary) -> str:
    return (
        "## Loading\n\n```python\nimport historystore\n\n"
        f'store = historystore.open("{_name(store)}")\n'
        "history = store.learners[0].histories[0]\n"
        "steps = history.read(0, 100)  # field name -> array\n```"
    )


def _origin(store: StoreSummary) -> str:
    origin = store.provenance
    rows = [("engine", ", ".join(origin.engines)), ("environment", ", ".join(origin.environments))]
    rows += [(name, ", ".join(versions)) for name, versions in origin.versions.items()]
    rows += [("git commit", ", ".join(origin.git_commits)), ("recorded", _span(store))]
    example = f"\n\nA task of it: `{canonical_json(store.example_task).decode()}`." if store.example_task else ""
    return "## Provenance\n\n" + _table(("", ""), [row for row in rows if row[1]]) + example


def _span(store: StoreSummary) -> str:
    moments = (store.provenance.first_started, store.provenance.last_ended)
    return " to ".join(moment for moment in moments if moment)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _name(store: StoreSummary) -> str:
    return Path(store.path).resolve().name
