from tests.e2e.conftest import (  # fixtures, by their names
    folder,
    folder_anew,
    gated,
    nobody,
    simulate,
)

__all__ = ["folder", "folder_anew", "gated", "nobody", "simulate"]
