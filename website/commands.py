"""What the `gfnet` command takes: the help of every subcommand, and every shipped config."""

from __future__ import annotations

import argparse

from agents.runs.config_files import CONFIGS
from scripts.cli import build_parser


def subcommands() -> str:
    """The help of each subcommand, as the terminal shows it.

    Returns:
        Markdown.
    """
    (commands,) = (one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction))
    helps = (f"## gfnet {name}\n\n```text\n{parser.format_help()}```\n" for name, parser in commands.choices.items())
    return "\n".join(helps)


def configs_page() -> str:
    """The shipped configs, file by file; those whose name begins with `_` are only extended by others.

    Returns:
        Markdown.
    """
    paths = sorted(CONFIGS.rglob("*.yaml"))
    names = [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths]
    files = (f"## {name}\n\n```yaml\n{path.read_text()}```\n" for name, path in zip(names, paths, strict=True))
    return (
        "# Configs\n\n`gfnet train NAME` takes these by name, or any file that is written like them; "
        "`--set KEY=VALUE` changes a key. What a file does not say is as in the one that it `extends`, or the "
        "default of `agents.RunConfig`.\n\n"
    ) + "\n".join(files)
