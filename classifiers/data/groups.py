"""Groups of image files that show the same thing, such as the frames of a recording: no two splits may share one.

They are named by `groups.csv` in a tree, with the columns `file` (relative to the tree) and `group`, or by a regular
expression for the files' names.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

GROUPS_FILE = "groups.csv"
"""Its name in a tree of images, beside `train/` and `val/`."""

_COLUMNS = ["file", "group"]
_NAMED = 20  # groups in an error


def read_groups(path: Path) -> dict[str, str]:
    """The group of each file that a groups file names, by the file's path.

    Raises:
        ValueError: if the columns are others, or a line has no group.
        FileNotFoundError: if an image that it names is not there.
    """
    groups = {}
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        if list(rows.fieldnames or ()) != _COLUMNS:
            found = ", ".join(map(str, rows.fieldnames or ())) or "(none)"
            raise ValueError(f"{path} has the columns {found}; pass {','.join(_COLUMNS)}")
        for row in rows:
            file = os.path.normpath(path.parent / (row["file"] or ""))
            if not os.path.isfile(file):
                raise FileNotFoundError(
                    f"{path}, line {rows.line_num}: {row['file']!r} is not a file of {path.parent}; name files "
                    "relative to it, or remove the line"
                )
            if not row["group"]:
                raise ValueError(f"{path}, line {rows.line_num}: the group of {row['file']!r} is missing; name it")
            groups[file] = row["group"]
    return groups


def match_groups(pattern: str, files: dict[str, list[str]], root: Path) -> dict[str, str]:
    """The groups of those files that a regular expression matches, by the file's path.

    Args:
        pattern: searched for in each path below its split, such as `cat/holiday_017.jpg`. The group is what its first
            parentheses enclose, or all that it matches if it has none.
        files: paths of the files of each split.
        root: the tree that holds the splits.

    Raises:
        ValueError: if it matches no file.
    """
    found: dict[str, str] = {}
    for path in (path for paths in files.values() for path in paths):
        below = "/".join(Path(path).relative_to(root).parts[1:])
        if match := re.search(pattern, below):
            found[os.path.normpath(path)] = match[1 if match.re.groups else 0] or ""
    if not found:
        raise ValueError(
            f"data.groups={pattern!r} matches no file of {root}; pass a pattern for paths such as {below!r}"
        )
    return found


def refuse_shared_groups(files: dict[str, list[str]], groups: dict[str, str], source: str) -> None:
    """Raises if a group is in several splits.

    Args:
        files: paths of the files of each split.
        groups: by path; a file without one is alone.
        source: what names the groups, for the error.

    Raises:
        ValueError: if some are; lists them.
    """
    splits: dict[str, list[str]] = {}
    for split, paths in files.items():
        for group in {groups[path] for path in map(os.path.normpath, paths) if path in groups}:
            splits.setdefault(group, []).append(split)
    shared = sorted(group for group, inside in splits.items() if len(inside) > 1)
    if shared:
        listed = ", ".join(f"{group!r} ({', '.join(splits[group])})" for group in shared[:_NAMED])
        more = "" if len(shared) <= _NAMED else f" and {len(shared) - _NAMED} more"
        raise ValueError(
            f"groups of {source} are in several splits: {listed}{more}; move all images of a group into one split: "
            "accuracies are too high otherwise"
        )
