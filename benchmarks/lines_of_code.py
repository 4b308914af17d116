"""Lines of code per package at several commits: lines that hold code, without blank lines, comments and docstrings.

python benchmarks/lines_of_code.py 88ae65d HEAD
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tokenize

PACKAGES = ("classifiers", "gfnet_env", "agents", "scripts")
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs="+", metavar="COMMIT")
    commits = parser.parse_args().commits
    print(f"| package | {' | '.join(commits)} |\n|---|{'---|' * len(commits)}")
    for package in PACKAGES:
        print(f"| `{package}/` | {' | '.join(f'{_count(commit, package):,}' for commit in commits)} |")


def _count(commit: str, package: str) -> int:
    files = _git("ls-tree", "-r", "--name-only", commit, f"{package}/").splitlines()
    return sum(code_lines(_git("show", f"{commit}:{file}")) for file in files if file.endswith(".py"))


def code_lines(source: str) -> int:
    """Lines of a module that hold code.

    Args:
        source: of the module.

    Returns:
        Their number.
    """
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):  # strings that stand alone: docstrings, and those after constants
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
