"""Where networks run."""

from __future__ import annotations

import torch


def usable_device(name: str) -> torch.device:
    """A device by its name, tried out.

    Args:
        name: torch's, such as `"cpu"`, `"cuda"` or `"cuda:1"`.

    Returns:
        The device.

    Raises:
        ValueError: if there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except Exception as error:  # each backend has its own words, and classes, for a device that is not there
        raise ValueError(f"device={name!r} can't be used on this machine; pass 'cpu' or one that it has") from error
    return device
