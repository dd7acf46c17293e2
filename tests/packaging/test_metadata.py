"""One version everywhere, siblings that fit together, and dependencies that are what they are said to be."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import version

from packaging.requirements import Requirement

import papyra

DISTRIBUTIONS = ["papyra-cli", "papyra-contrib", "papyra-core", "papyra-json"]

# What may be imported without being depended on, and why.
OPTIONAL = {
    "papyra-cli": {"textual": "tui"},
    "papyra-core": {
        "papyra_contrib": "for type checkers alone: what ActorSystem.cluster returns",
        "hypothesis": "papyra.testing: the model of a store, if it is installed",
        "papyra_json": "the one door to a sibling",
        "pytest": "papyra.testing: tests of other projects",
        "trio": "a program that runs on trio has it",
        "typing_extensions": "for type checkers alone",
    },
    "papyra-contrib": {
        **dict.fromkeys(
            ("fastapi", "lilya", "litestar", "ravyn"), "an adapter's framework: its users have it"
        ),
        "click": "papyra cluster: the command that loads it brings it",
        "markupsafe": "comes with jinja2",
        "papyra_cli": "as click",
        "pytest": "papyra_contrib.cluster.testing: tests of other projects",
        "typing_extensions": "for type checkers alone",
        "trio": "a program that runs on trio has it",
        **dict.fromkeys(("fastapi", "lilya", "litestar", "ravyn", "starlette"), "the adapter of its name"),
    },
}
NAMES_OF_MODULES = {
    "importlib-metadata": "importlib_metadata",
    "nats-py": "nats",
    "opentelemetry-api": "opentelemetry",
    "papyra-core": "papyra",
    "prometheus-client": "prometheus_client",
}


def required(project):
    dependencies = [Requirement(one) for one in project["dependencies"]]
    extras = project.get("optional-dependencies", {})
    return dependencies, [Requirement(one) for extra in extras.values() for one in extra]


def test_there_are_four_distributions(projects):
    assert sorted(projects) == DISTRIBUTIONS


def test_one_version_everywhere(projects, workspace):
    said = {name: one["project"]["version"] for name, one in projects.items()}
    assert set(said.values()) == {papyra.__version__}
    assert workspace["project"]["version"] == papyra.__version__
    assert workspace["tool"]["towncrier"]["version"] == papyra.__version__
    assert {name: version(name) for name in DISTRIBUTIONS} == said


def test_siblings_are_pinned_to_this_version(projects):
    for name, one in projects.items():
        dependencies, extra = required(one["project"])
        siblings = [each for each in [*dependencies, *extra] if each.name in DISTRIBUTIONS]
        assert all(str(each.specifier) == f"=={papyra.__version__}" for each in siblings), name
        assert {each.name for each in siblings} == (set() if name == "papyra-core" else {"papyra-core"})


def test_every_dependency_has_a_floor_and_no_ceiling(projects):
    for one in projects.values():
        for each in required(one["project"])[0]:
            assert {specifier.operator for specifier in each.specifier} <= {">=", "=="}, str(each)
            assert each.specifier, str(each)


def test_the_distributions_say_the_same_of_themselves(projects):
    shared = ("license", "license-files", "requires-python", "authors", "classifiers", "readme")
    for field in shared:
        assert len({repr(one["project"].get(field)) for one in projects.values()}) == 1, field
    assert len({repr(one["build-system"]) for one in projects.values()}) == 1


def test_what_is_imported_is_depended_on(root, projects):
    """And the other way round: a dependency that nothing imports should go.

    anyio comes with papyra-core, to whose very version the siblings are pinned.
    """
    for name, one in projects.items():
        dependencies, extra = required(one["project"])
        allowed = {"anyio"} | {NAMES_OF_MODULES.get(each.name, each.name) for each in [*dependencies, *extra]}
        own = one["tool"]["uv"]["build-backend"]["module-name"]
        imported = set()
        for path in (root / "packages" / name / "src").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add((node.module or "").partition(".")[0])
        foreign = imported - set(sys.stdlib_module_names) - {own}
        assert foreign - allowed - set(OPTIONAL.get(name, {})) == set(), name
        assert {NAMES_OF_MODULES.get(each.name, each.name) for each in dependencies} - foreign == set(), name
