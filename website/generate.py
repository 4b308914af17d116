"""The pages of the docs site that come from the code: environments, algorithms, commands, configs, reference.

`mkdocs-gen-files` runs this program when `make docs` builds the site; API descriptions are left to `mkdocstrings`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import mkdocs_gen_files
import yaml
from PIL import Image, ImageOps

import gfnet_env
from agents import AGENTS, AgentRecipe
from agents.runs.config_files import CONFIGS
from gfnet_env.suite import SUITE
from scripts.cli import build_parser

ROOT = Path(__file__).parent.parent
PACKAGES = ("classifiers", "gfnet_env", "agents")
FORMS = {
    "plain": "as it is",
    "flat": "observations as one flat vector",
    "grid": "a grid of places, `gfnet_env.GridAction`",
}
"""How an algorithm takes the environment, by `AgentRecipe.form`."""
THUMBNAIL = (400, 276)
"""Width and height of a picture of the gallery, in pixels."""


def main() -> None:
    """Writes all pages."""
    write("index.md", front_page())
    write("overview.md", linked("README.md"))
    write("contributing.md", linked("CONTRIBUTING.md"))
    write("changelog.md", linked("CHANGELOG.md"))
    write("environments/index.md", environments_overview())
    for env_id in gfnet_env.TASKS:
        write(f"environments/{env_id}.md", environment_page(env_id))
    write("algorithms/index.md", algorithms_overview())
    for name, recipe in AGENTS.items():
        write(f"algorithms/{name}.md", algorithm_page(name, recipe))
    write("command.md", (ROOT / "docs" / "command.md").read_text(encoding="utf-8") + commands())
    write("configs.md", configs())
    write("reference/index.md", reference_overview())
    for package in PACKAGES:
        write(f"reference/{package}.md", reference(package))


def write(page: str, markdown: str) -> None:
    with mkdocs_gen_files.open(page, "w") as file:
        file.write(markdown)


def linked(source: str) -> str:
    """A text of the repository's root as a page: links lead to pages, those to other files are dropped."""
    text = (ROOT / source).read_text(encoding="utf-8")
    text = text.replace("](docs/", "](").replace("](CONTRIBUTING.md", "](contributing.md")

    def only_text(link: re.Match[str]) -> str:
        return link[1] if (ROOT / link[2]).is_file() else link[0]

    return re.sub(r"\[([^\]]+)\]\(([^)#]+)\)", only_text, text)


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def described(path: str, **options: Any) -> str:
    """A directive of mkdocstrings: the docstring and the arguments of one object."""
    settings = {"show_root_heading": False, "show_root_toc_entry": False, "members": False, **options}
    lines = "".join(f"      {key}: {str(value).lower()}\n" for key, value in settings.items())
    return f"::: {path}\n    options:\n{lines}\n"


def first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def front_page() -> str:
    first = ["GFNet-SyntheticSigns-v0", *(each.env_id for each in SUITE.values())]
    cards = []
    for env_id in dict.fromkeys([*first, *gfnet_env.TASKS]):
        picture = f"environments/{env_id}.png"
        with (
            Image.open(ROOT / "docs" / "environments" / f"{env_id}.gif") as animation,
            mkdocs_gen_files.open(picture, "wb") as file,
        ):
            animation.seek(animation.n_frames - 1)
            ImageOps.fit(animation.convert("RGB"), THUMBNAIL, centering=(0.0, 0.5)).save(file, "PNG", optimize=True)
        page = f"environments/{env_id}.md"
        cards.append(f"- [![{env_id}]({picture})]({page})\n\n    **[{env_id}]({page})**\n\n    {task_line(env_id)}\n")
    text = (ROOT / "website" / "front.md").read_text(encoding="utf-8")
    parts = {"version": gfnet_env.__version__, "gallery": "\n".join(cards), "bibtex": bibtex()}
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part)
    return text


def bibtex() -> str:
    """The two entries of `CITATION.cff`."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = cited["preferred-citation"]
    ours = {"author": "{GFNet-Gym contributors}", "title": cited["title"], "note": f"Version {cited['version']}"}
    theirs = {
        "author": " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]),
        **{name: paper[name] for name in ("title", "journal", "volume")},
        "number": paper["issue"],
        "pages": f"{paper['start']}--{paper['end']}",
        "year": paper["year"],
        "doi": paper["doi"],
    }
    entries = (("software", "gfnet_gym", ours), ("article", "huang2023glance", theirs))
    return "\n".join(
        f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}\n"
        for kind, key, fields in entries
    )


def environments_overview() -> str:
    rows = [(f"[`{env_id}`]({env_id}.md)", task_line(env_id)) for env_id in gfnet_env.TASKS]
    return (
        "# Environments\n\nAll ids share the rules below. They differ in images and networks, and each has a page.\n\n"
        + table(("id", "images"), rows)
        + "\n## The environment\n\n"
        + described("gfnet_env.GlanceFocusEnv")
        + "\n## Rules of an episode\n\nKeywords of `gym.make` for every id "
        "([what each is good for](../variants.md)):\n\n"
        + described("gfnet_env.EpisodeSpec")
        + "\n## Sizes\n\nOf these, `gym.make` takes `patch_size` or `patch_sizes`, `glance_size`, `num_glimpses` and "
        "`feature_stride`:\n\n" + described("classifiers.ClassifierSpec")
    )


def task_function(env_id: str) -> Any:
    task = gfnet_env.TASKS[env_id].make_task
    return getattr(task, "func", task)  # of a `functools.partial`


def task_line(env_id: str) -> str:
    """What a task is, in one line: for the suite's, that of the module that draws its scenes."""
    specs = [each.spec for each in SUITE.values() if each.env_id == env_id]
    if not specs:
        return first_line(task_function(env_id))
    line = first_line(inspect.getmodule(type(specs[0]))).split(": ", 1)[1]
    return line[0].upper() + line[1:]


def environment_page(env_id: str) -> str:
    task = task_function(env_id)
    picture = f"{env_id}.gif"
    parts = [f"# {env_id}\n"]
    if (ROOT / "docs" / "environments" / picture).is_file():
        parts.append(
            f"![Episodes of {env_id}: the glance, then patch by patch, and what the classifier sees]({picture})\n\n"
            f"*Green boxes where the prediction is right, with the confidence in the true label. "
            f"`python benchmarks/animations.py {env_id}` makes it and says what it shows.*\n"
        )
    parts += [
        facts(env_id),
        "## Arguments\n\nOf the images and the networks. All ids take [the rules of an episode]"
        "(index.md#rules-of-an-episode) and [the sizes](index.md#sizes), too.\n",
        described(f"{task.__module__}.{task.__name__}"),
    ]
    return "\n".join(parts)


def facts(env_id: str) -> str:
    """What the environment says about itself when it is made with nothing passed, or what it wants."""
    made = f'```python\nimport gymnasium as gym\n\nenv = gym.make("gfnet_env:{env_id}"%s)\n```\n'
    arguments = inspect.signature(gfnet_env.TASKS[env_id].make_task).parameters
    few: dict[str, Any] = {"num_scenes": 1} if "num_scenes" in arguments else {}  # what is said does not depend on it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # sample photos in place of ImageNet
            env = gymnasium.make(env_id, **few)
    except ValueError as error:
        return made % ', root="FOLDER", classifier="RUN"' + f"\nWith nothing passed, it says: {error}.\n"
    inner = env.unwrapped
    assert isinstance(inner, gfnet_env.GlanceFocusEnv)
    spec, source = inner.task.classifier.spec, inner.task.source
    height, width = source.image_size
    names = ", ".join(source.class_names[:10]) + (", ..." if len(source.class_names) > 10 else "")
    rows = [
        ("action space", f"`{env.action_space}`"),
        *((f"observation `{key}`", f"`{space}`") for key, space in inner.observation_space.spaces.items()),
        ("images", f"{f'{spec.num_frames} frames of ' if spec.num_frames else ''}{height}x{width} pixels"),
        ("classes", f"{len(source.class_names)}: {names}"),
        ("glimpses T", f"{spec.num_glimpses}, the glance included"),
        ("glance, patches", f"{spec.glance_side}, {' or '.join(map(str, spec.patch_sizes))} pixels"),
        ("networks", f"encoder `{spec.encoder}`, head `{spec.head}`"),
    ]
    env.close()
    return made % "" + "\nWith nothing passed it is:\n\n" + table(("what", "here"), rows)


def algorithms_overview() -> str:
    rows = []
    for name, recipe in AGENTS.items():
        learns = "rollouts" if recipe.rollout else "a replay buffer" if recipe.updates_per_step else "whole episodes"
        library = recipe.algorithm.__module__.split(".")[0]
        rows.append((f"[`{name}`]({name}.md)", f"{recipe.algorithm.__name__} ({library})", learns))
    return (
        "# Algorithms\n\nNames for `agents.make_agent(NAME, env)` and `gfnet train CONFIG --set stage2.agent=NAME`. "
        "[Your own](../own_algorithm.md) is one entry more, [the leaderboard](../leaderboard.md) compares them, and "
        "[diagnosing](../diagnosing.md#what-algorithms-log) says what they log.\n\n"
        + table(("name", "algorithm", "learns from"), rows)
    )


def algorithm_page(name: str, recipe: AgentRecipe) -> str:
    algorithm: Any = recipe.algorithm
    policy = recipe.policy if isinstance(recipe.policy, str) else recipe.policy.__name__
    settings = [(f"`{key}`", f"`{value!r}`") for key, value in recipe.defaults.items()]
    settings += [
        (f"`{key}`", f"`{value!r}`")
        for key in ("rollout", "batches", "updates_per_step", "noise", "num_envs", "policy_kwargs")
        if (value := getattr(recipe, key))
    ]
    ours = algorithm.__module__.startswith("agents.")
    return f"""# {name}

```bash
gfnet train demo --out runs/{name} --set stage2.agent={name}
gfnet benchmark {name} --out runs/leaderboard
```

```python
import gymnasium as gym

import agents

env = gym.make_vec("gfnet_env:GFNet-SyntheticSigns-v0", num_envs=4, num_scenes=100, autoreset_mode="SAME_STEP")
agent = agents.make_agent("{name}", env, seed=0)
agent.learn(768)
```

## Settings

The recipe `agents.AGENTS["{name}"]`; policy `{policy}`, takes the environment: {FORMS[recipe.form]}. Change one with
`--set stage2.options.NAME=VALUE`, or a keyword of `make_agent`.

{table(("argument", "value"), settings)}
## The algorithm

{described(f"{algorithm.__module__}.{algorithm.__name__}", docstring_style="google" if ours else "sphinx")}"""


def commands() -> str:
    """The help of each subcommand, as the terminal shows it."""
    (found,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps = (f"\n## gfnet {name}\n\n```text\n{parser.format_help()}```\n" for name, parser in found.choices.items())
    return "".join(helps)


def configs() -> str:
    """The configs, file by file."""
    text = (
        "# Configs\n\n`gfnet train NAME` takes these by name, or any file that is written like them; "
        "`--set KEY=VALUE` changes a key. What a file leaves out is as in the one that it `extends`, or the "
        "default of `agents.RunConfig`.\n"
    )
    for path in sorted(CONFIGS.rglob("*.yaml")):
        name = path.relative_to(CONFIGS).with_suffix("").as_posix()
        text += f"\n## {name}\n\n```yaml\n{path.read_text(encoding='utf-8')}```\n"
    return text


def reference_overview() -> str:
    text = "# Reference\n\nThe public names of each package; everything else may change without notice.\n"
    for name in PACKAGES:
        module = importlib.import_module(name)
        rows = [
            (f"[`{each}`]({name}.md#{name}.{each})", reference_line(getattr(module, each))) for each in module.__all__
        ]
        text += f"\n## [{name}]({name}.md)\n\n{first_line(module)}\n\n" + table(("name", "what it is"), rows)
    return text


def reference_line(thing: Any) -> str:
    """What a public name is; constants have their docstring in the source alone."""
    described = inspect.isclass(thing) or inspect.isroutine(thing)
    return first_line(thing) if described else f"a {type(thing).__name__}"


def reference(package: str) -> str:
    module = importlib.import_module(package)
    names = "\n".join(f"::: {package}.{name}\n" for name in module.__all__)
    return f"# {package}\n\n{inspect.getdoc(module)}\n\n{names}"


main()
