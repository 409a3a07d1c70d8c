"""The files that say what to install say the same."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import install
import masslib
from notebook_execution import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


DECLARED = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(line):
    """The name in a line such as `ray[serve]>=2.60`."""
    return re.split(r"[\[<>=]", line)[0]


def test_every_dependency_has_a_lower_bound_and_says_what_breaks_above_an_upper_one():
    assert [line for line in DECLARED if not re.fullmatch(r"[a-z0-9-]+(\[[a-z0-9]+\])?>=[\d.]+(,<[\d.]+)?", line)] == []
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    bounded = [line for line in lines if re.search(r">=[\d.]+,<", line)]
    assert [line for line in bounded if not re.search(r" # \S", line)] == []


def test_the_constraints_bound_every_dependency_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    bounds = [re.fullmatch(r"([a-z0-9-]+)<[\d.]+", line)[1] for line in lines if not line.startswith("#")]
    assert bounds == list(dict.fromkeys(map(declared, DECLARED)))


def test_the_conda_environment_is_that_of_make_install():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    assert lines[lines.index("dependencies:") + 1 :] == [
        f"- python{PROJECT['requires-python']}",
        "- pip",
        "- pip:",
        f"- --constraint {install.LIMITS}",
        f"- --editable .[{','.join(install.EXTRAS)}]",
    ]


def test_every_import_is_declared():
    """Also the imports inside functions; those of optional extras count as declared."""
    allowed = {canonical(declared(line)) for line in DECLARED}
    scripts = (path.stem for folder in ("tools", "tests") for path in (ROOT / folder).glob("*.py"))
    ours = {"masslib", "case", "zoo", *scripts}
    distributions = packages_distributions()
    for path in (path for folder in ("masslib", "tools", "tests") for path in (ROOT / folder).rglob("*.py")):
        modules = imported(ast.parse(path.read_text(encoding="utf-8")))
        for module in modules - sys.stdlib_module_names - ours:
            found = {canonical(name) for name in distributions.get(module, [module])}
            assert found & allowed, f"{path.name} imports {module}: declare it in pyproject.toml"


def imported(tree):
    nodes = list(ast.walk(tree))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    whole = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in plain + whole}


def test_the_version_is_a_literal_that_the_changelog_can_name():
    assert re.fullmatch(r"\d+\.\d+\.\d+", masslib.__version__)
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_ours():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "The masslib authors" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_workflows_hooks_and_guide_call_commands_that_there_are():
    commands = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    called = set()
    for path in [*workflows, ROOT / ".pre-commit-config.yaml", ROOT / "CONTRIBUTING.md", ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        found = set(re.findall(r"(?:run: |entry: |`|^)make ([a-z-]+)", text, re.M))
        for row in re.findall(r"command: \[(.*)\]", text):  # the matrix of a workflow
            found |= set(re.split(r",\s*", row))
        assert found and found <= commands, f"{path.name} calls {sorted(found - commands)}; there is {sorted(commands)}"
        called |= found if path in workflows else set()
    assert {"test", "test-all", "bench"} <= called


def test_the_readme_lists_every_public_module():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| module | what it is for |")[2]
    first_columns = re.findall(r"^\| (`[^|]*) \|", table.partition("\n\n")[0], re.M)
    listed = re.findall(r"`(\w+)`", " ".join(first_columns))
    packaged = {path.stem for path in (ROOT / "masslib").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert len(listed) == len(set(listed))
    assert set(masslib._MODULES) <= set(listed) <= packaged
