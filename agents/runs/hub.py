"""Packs on the Hugging Face Hub, or on any server that speaks its protocol (`HF_ENDPOINT`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classifiers.checks import first_line

_SOURCE = re.compile(r"hf://([^/@\s]+/[^/@\s]+)(?:@(\S+))?")
_READ = ("*.safetensors", "*.json", "*.yaml", "*.md")


def is_on_hub(source: Path | str) -> bool:
    """Whether a run is named by `hf://OWNER/NAME`."""
    return isinstance(source, str) and source.startswith("hf://")


def download(source: str) -> Path:
    """Downloads a pack, or finds it where an earlier call left it: in the cache of `huggingface_hub`.

    Without a network, or with `HF_HUB_OFFLINE=1`, the pack must be there already. Only weights without code, texts and
    settings are downloaded.

    Args:
        source: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION` with a branch, a tag or a commit.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if there is no such repository, or no network and nothing in the cache.
        ModuleNotFoundError: if the extra `hub` is not installed.
        ValueError: if the name is none, or there is no such revision.
    """
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise ValueError(f"{source!r} names no pack; pass hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    name, revision = found[1], found[2]
    with _explained(name, revision):
        return Path(_hub().snapshot_download(name, revision=revision, allow_patterns=list(_READ)))


def upload(folder: Path, files: Sequence[str], name: str, *, revision: str | None = None, private: bool = False) -> str:
    """Uploads files as one commit, so that readers see all of them or none.

    Args:
        folder: where they are.
        files: their names there.
        name: of the repository, `OWNER/NAME`; made if there is none.
        revision: an existing branch; None for the main one.
        private: whether a new repository is private.

    Returns:
        The commit's address.

    Raises:
        FileNotFoundError: if there is no such owner, or no network.
        ModuleNotFoundError: if the extra `hub` is not installed.
        ValueError: if the name is none, or there is no such branch.
    """
    if _SOURCE.fullmatch(f"hf://{name}") is None or "@" in name:
        raise ValueError(f"{name!r} names no repository; pass OWNER/NAME")
    hub = _hub()
    added = [hub.CommitOperationAdd(file, str(folder / file)) for file in files]
    with _explained(name, revision):
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        made = api.create_commit(name, added, commit_message="Upload a pack of gfnet-gym", revision=revision)
    return str(made.commit_url)


def _hub() -> Any:
    try:
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the Hub needs huggingface_hub; run `pip install 'gfnet-gym[hub]'`") from error
    return huggingface_hub


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """The errors of `huggingface_hub`, which have several lines, as one sentence each."""
    errors = _hub().errors
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{name} has no revision {revision!r} on the Hub; pass a branch, a tag or a commit") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is not on the Hub, or is not yours to use; check the name, and set HF_TOKEN if it is private"
        ) from error
    except errors.HfHubHTTPError as error:
        raise OSError(
            f"the Hub refused {name} ({error.response.status_code} {error.response.reason_phrase})"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is not in the cache and the Hub can't be reached; download it once with a network"
        ) from error
    except Exception as error:  # of httpx, or what `huggingface_hub` has in its place
        if "TransportError" not in {base.__name__ for base in type(error).__mro__}:
            raise
        raise OSError(f"{name}: the Hub can't be reached ({first_line(error)}); try again with a network") from error
