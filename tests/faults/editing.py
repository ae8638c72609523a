"""Statements of the relay in this process, changed for a build that is broken on purpose."""

from __future__ import annotations

from agentchat_relay.store.statements import _HEAD, _HERE, _statement, statements

_ENGINES = ("sqlite", "postgres")
_texts = {
    name: text
    for file in _HERE.joinpath("sql").iterdir()
    if file.name.endswith(".sql")
    for part in [_HEAD.split(file.read_text("utf-8"))]
    for name, text in zip(part[1::2], part[2::2], strict=True)
}


def add(name: str, text: str) -> None:
    for engine in _ENGINES:
        statements(engine)[name] = _statement(name, text, engine)


def edit(name: str, old: str, new: str) -> None:
    """Of the statements of both engines, before any of them is prepared."""
    if old not in _texts[name]:
        raise ValueError(f"{name} does not hold {old!r}")
    _texts[name] = _texts[name].replace(old, new)
    add(name, _texts[name])
