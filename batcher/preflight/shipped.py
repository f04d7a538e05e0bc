"""Reads the shipped rules."""

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

from batcher.preflight.rules import RuleBook


@cache
def shipped_rules() -> RuleBook:
    """The rules of this release; docs/preflight.md explains their file."""
    text = (files("batcher") / "data" / "rules.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), RuleBook)
