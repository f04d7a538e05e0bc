"""What rooms above carry around without looking inside."""

from sqlalchemy import Connection, Engine

__all__ = ["Connection", "Engine"]
