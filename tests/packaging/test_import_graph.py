"""Imports between our modules point one way."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

# Lower layers of papyra first. A module imports from its own layer or below.
LAYERS = [
    ["papyra._version", "papyra.exceptions", "papyra.address", "papyra.messages", "papyra.events",
     "papyra.supervision", "papyra.audit", "papyra.deadletters", "papyra.hooks", "papyra.typing", "papyra.settings", "papyra._pyproject",
     "papyra.units", "papyra.plugins", "papyra.instruments", "papyra.instrument_discovery", "papyra.statistics"],
    ["papyra.persistence"],
    ["papyra._runtime", "papyra.actor", "papyra.proxy", "papyra.ref", "papyra.context", "papyra.hookspecs",
     "papyra.hook_discovery", "papyra.interrupts", "papyra.reply", "papyra.request", "papyra.portal"],
    ["papyra.cluster", "papyra.system"],
    ["papyra", "papyra.testing"],
]  # fmt: skip

# The modules and folders of the other distributions, lowest first: each imports from itself and from those
# before it, also in functions and for annotations.
FOLDERS = {
    "papyra_json": [
        "_fs",
        "_record",
        "_segment",
        "_fileset",
        "_read",
        "_maintenance",
        "_write",
        "_file_persistence",
        "_json_file",
        "_rotating_file",
    ],
    "papyra_cli": [
        "_exit_codes",
        "_escape",
        "_errors",
        "_output",
        "_store",
        "_live",
        "_click",
        "commands",
        "_main",
    ],
}

# The modules and folders inside a folder, lowest floor first: one imports from its own floor or below.
# Annotations count too, except in the runtime, where a cell and the parts that work on it name each other's
# types.
FLOORS = {
    "papyra._runtime": [
        "containment envelope phases restart_window",
        "_eventloop end_reason facts timers",
        "cell fact_writer history hook_calls process wait_graph",
        "context_guard observation worker",
        "mailbox runtime",
        "delivery local_system",
        "asks children instruments introspection watching",
        "stopping tree",
        "resources",
        "decisions restart_group spawning",
        "supervision",
        "lifecycle worker_loop",
        "running_system",
    ],
    "papyra_contrib.sqlite": [
        "_batch_ids _errors _files _fork_safety _statement_progress",
        "_connect _lock",
        "_backup _schema",
        "_queries _swap",
        "_database",
        "_compaction _scan",
        "_recovery",
        "_backend",
    ],
    "papyra_contrib.redis": ["_connection", "_batches _checks _entries", "_follower _groups _maintenance _paging", "_backend", "_published"],
    "papyra_contrib.postgres": ["_connection", "_schema", "_queries", "_follower _maintenance _writing", "_backend"],
    "papyra_contrib.cluster": [
        "_errors",
        "_messages _transport",
        "_memory _memory_hub _remote _registry codec",
        "_wire",
        "_discovery _links nats",
        "_registry_view _session _verifier",
        "_command _membership _registrar",
        "_claims _ref_table _sending _services _watches",
        "_singleton",
        "_cluster",
        "testing",
    ],
}  # fmt: skip


def _modules(root):
    found = {}
    for source in root.glob("packages/*/src"):
        for path in source.rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class _Imports(ast.NodeVisitor):
    """Collect what a module imports when it is imported: not in functions, not for annotations alone."""

    def __init__(self, modules):
        self.modules, self.found = modules, set()

    def visit_FunctionDef(self, node):
        pass

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_If(self, node):
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Import(self, node):
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node):
        assert not node.level, "the house imports by absolute names"
        for alias in node.names:
            self._add(f"{node.module}.{alias.name}")

    def _add(self, name):
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        if name:
            self.found.add(name)


class _AllImports(_Imports):
    """Collect every import, in functions and for annotations too."""

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_If = ast.NodeVisitor.generic_visit


@pytest.fixture(scope="module")
def graph(root):
    modules = _modules(root)
    assert len(modules) > 50
    edges = {}
    for name, path in modules.items():
        visitor = _Imports(modules)
        visitor.visit(ast.parse(path.read_text("utf-8")))
        edges[name] = visitor.found - {name}
    return edges


def test_there_is_no_cycle(graph):
    # A package's __init__ hands on names of its modules; that those name the package itself does not count.
    edges = {name: {one for one in found if not name.startswith(f"{one}.")} for name, found in graph.items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_core_is_a_staircase(graph):
    def floor(name):
        def fits(one):
            return name == one or (one != "papyra" and name.startswith(f"{one}."))

        return next((level for level, ones in enumerate(LAYERS) if any(map(fits, ones))), None)

    core = [name for name in graph if name == "papyra" or name.startswith("papyra.")]
    homeless = [name for name in core if floor(name) is None]
    assert homeless == [], "say in LAYERS where this module belongs"
    up = [
        f"{name} imports {one}"
        for name in core
        for one in graph[name]
        if one.partition(".")[0] == "papyra" and floor(one) > floor(name)
    ]
    assert up == []


@pytest.mark.parametrize("package", FOLDERS)
def test_the_folders_of_a_distribution_are_a_staircase(root, package):
    modules = {name: path for name, path in _modules(root).items() if name.startswith(f"{package}.")}

    def floor(name):
        return FOLDERS[package].index(name.split(".")[1])

    wrong = []
    for name, path in modules.items():
        if name.split(".")[1] in FOLDERS[package]:
            visitor = _AllImports(modules)
            visitor.visit(ast.parse(path.read_text("utf-8")))
            wrong += [f"{name} imports {one}" for one in visitor.found if floor(one) > floor(name)]
    assert wrong == []
    assert {name.split(".")[1] for name in modules} - {"__main__"} == set(FOLDERS[package])


@pytest.mark.parametrize("folder", FLOORS)
def test_the_modules_of_a_folder_are_a_staircase(root, graph, folder):
    modules = {name: path for name, path in _modules(root).items() if name.startswith(f"{folder}.")}
    floors = {name: level for level, names in enumerate(FLOORS[folder]) for name in names.split()}

    def room(name):
        return name.removeprefix(f"{folder}.").partition(".")[0]

    assert {room(name) for name in modules} == set(floors), "say in FLOORS where this module belongs"
    wrong = []
    for name, path in modules.items():
        found = graph[name]
        if folder != "papyra._runtime":
            visitor = _AllImports(modules)
            visitor.visit(ast.parse(path.read_text("utf-8")))
            found = visitor.found
        wrong += [
            f"{name} imports {one}"
            for one in found
            if one in modules and floors[room(one)] > floors[room(name)]
        ]
    assert wrong == []


def test_nothing_imports_the_command_and_core_no_sibling(graph):
    wrong = [
        f"{name} imports {one}"
        for name, found in graph.items()
        for one in found
        if name.partition(".")[0] != one.partition(".")[0]
        and one.partition(".")[0] != "papyra"
        and name not in ("papyra.persistence.json", "papyra.persistence.redis")
    ]
    assert wrong == []


def test_patterns_use_the_public_api_alone(graph):
    patterns = ("eventstream", "patterns", "receptionist", "routing", "running", "supervisor")
    wrong = [
        f"{name} imports {one}"
        for name, found in graph.items()
        for one in found
        if name.split(".")[:1] == ["papyra_contrib"]
        and name.split(".")[1:2]
        and name.split(".")[1] in patterns
        and one.startswith("papyra._")
    ]
    assert wrong == []
