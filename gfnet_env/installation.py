"""What is installed: our version, and whether the package `agents` is ours."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path


def installed_version() -> str:
    """The version of the distribution; `"unknown"` for a source tree that is not installed."""
    try:
        return importlib.metadata.version("gfnet-gym")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def foreign_agents() -> str | None:
    """A sentence about a package `agents` of others that hides or has overwritten ours; None if there is none.

    Another popular distribution owns that name, too, and a folder `agents` beside a script is common.
    """
    spec = importlib.util.find_spec("agents")
    if spec is None or spec.origin is None:
        return None
    init = Path(spec.origin)
    is_ours = init.parent.parent == Path(__file__).parent.parent and "GFNet-Gym" in init.read_text(encoding="utf-8")
    if is_ours:
        return None
    return (
        f"the package agents in {init.parent} is not GFNet-Gym's, whose agents and gfnet command don't work beside it; "
        "rename that folder, or install GFNet-Gym in a virtual environment of its own"
    )
