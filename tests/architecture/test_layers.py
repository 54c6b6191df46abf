"""Who may import whom: domain <- ports <- use cases <- services, and only the wiring knows adapters.

Read from the syntax trees, so that imports inside functions and for type checkers count too.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

PURE: Final = frozenset(
    {"base64", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "itertools"}
    | {"math", "re", "typing"}
)
"""Of the standard library: what neither looks at the world nor changes it."""

MAY_IMPORT: Final = {
    "shared.domain": PURE | {"msgspec", "ulid", "shared.domain"},
    "shared.ports": PURE | {"contextlib", "contextvars", "pathlib", "shared.domain", "shared.ports"},
    "shared.usecases": PURE
    | {"asyncio", "contextlib", "msgspec", "pathlib", "structlog"}
    | {"shared.domain", "shared.ports", "shared.usecases"},
}

# Adapters keep to their own family, but for these.
HELPERS: Final = frozenset(
    {f"shared.adapters.{name}" for name in ("clock", "cursors", "instants", "keyed_locks", "watching")}
)
WIRE_FORMATS: Final = frozenset({"shared.envelope", "shared.documents"})

KNOW_ADAPTERS: Final = {
    "shared.wiring": "it is the one package that knows both ports and adapters",
    "services.cli.backup": "a backup is a copy of one adapter's file",
}


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module

    @property
    def imports(self) -> Iterator[str]:
        """The modules it imports, and for `from package import name` that name in it too, if it is one."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    assert level == 0, f"{self.name} imports relatively"
                    assert module is not None
                    submodules = [f"{module}.{alias.name}" for alias in names]
                    found = [name for name in submodules if name in names_of_all()]
                    yield from found or [module]

    def calls_of(self, *attributes: str) -> list[str]:
        """Which of `owner.attribute` it mentions, for two plain names."""
        return [
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and f"{node.value.id}.{node.attr}" in attributes
        ]


@cache
def paths_of_all() -> dict[str, Path]:
    found = {}
    for top in ("services", "shared"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def names_of_all() -> frozenset[str]:
    return frozenset(paths_of_all())


@cache
def modules() -> tuple[Module, ...]:
    return tuple(Module(name, ast.parse(path.read_text())) for name, path in paths_of_all().items())


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules_in(*packages: str) -> list[Module]:
    found = [module for module in modules() if under(module.name, *packages)]
    assert found, f"there is nothing in {packages}"
    return found


def offences(modules_: list[Module], *, may: frozenset[str]) -> list[str]:
    return [
        f"{module.name} imports {imported}"
        for module in modules_
        for imported in module.imports
        if not under(imported, *may)
    ]


def test_the_reader_of_imports_sees_them_all() -> None:
    """A test of this test: imports in functions, of submodules, and for type checkers."""
    seen = {name for wiring in modules_in("shared.wiring") for name in wiring.imports}
    assert {"shared.adapters.clock", "shared.adapters.media.local_disk", "pathlib"} <= seen
    [submit] = modules_in("shared.usecases.submit")
    assert "shared.domain.errors" in set(submit.imports)
    assert len(modules()) > 60


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_inner_layers_import_only_what_lies_further_in(layer: str) -> None:
    assert offences(modules_in(layer), may=frozenset(MAY_IMPORT[layer])) == []


def test_inner_layers_have_no_clock_no_chance_and_no_files_of_their_own() -> None:
    forbidden = (
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "asyncio.sleep",
        "Path.home",
        "Path.cwd",
    )
    found = [
        f"{module.name}: {call}" for module in modules_in(*MAY_IMPORT) for call in module.calls_of(*forbidden)
    ]
    assert found == []


def test_inner_layers_neither_open_files_nor_print() -> None:
    found = [
        f"{module.name} calls {node.func.id}"
        for module in modules_in(*MAY_IMPORT)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"open", "print", "input", "exec", "eval", "__import__"}
    ]
    assert found == []


def family_of(name: str) -> str:
    """`shared.adapters.queues` for all that lies in it."""
    return ".".join(name.split(".")[:3])


def test_adapters_know_the_domain_the_ports_and_their_own_family() -> None:
    found = []
    for module in modules_in("shared.adapters"):
        own = {"shared.domain", "shared.ports", family_of(module.name)} | HELPERS | WIRE_FORMATS
        if module.name in HELPERS:
            own -= WIRE_FORMATS
        found += [
            f"{module.name} imports {imported}"
            for imported in module.imports
            if under(imported, "shared", "services") and not under(imported, *own)
        ]
    assert found == []


def test_generators_of_different_makers_know_nothing_of_each_other() -> None:
    """But for what all models behind an HTTP API have in common."""
    package, common = "shared.adapters.generators", "shared.adapters.generators.remote"
    for module in modules_in(package):
        maker = ".".join(module.name.split(".")[:4])
        own = {maker} if maker == common or under(maker, f"{package}.local_renderer") else {maker, common}
        others = [name for name in module.imports if under(name, package) and not under(name, *own)]
        assert others == [], module.name


def test_only_the_wiring_knows_adapters() -> None:
    knowing = {
        module.name
        for module in modules()
        if not under(module.name, "shared.adapters")
        and any(under(imported, "shared.adapters") for imported in module.imports)
    }
    assert {name for name in knowing if not under(name, *KNOW_ADAPTERS)} == set()
    for exception in KNOW_ADAPTERS:
        assert any(under(name, exception) for name in knowing), "an exception that nobody needs any more"


def test_shared_code_knows_nothing_of_the_services() -> None:
    assert [m.name for m in modules_in("shared") if any(under(name, "services") for name in m.imports)] == []


def test_the_two_services_know_nothing_of_each_other() -> None:
    pairs = (("services.api_gateway", "services.worker"), ("services.worker", "services.api_gateway"))
    for one, other in pairs:
        assert [m.name for m in modules_in(one) if any(under(name, other) for name in m.imports)] == []


def test_what_both_services_share_knows_neither_of_them() -> None:
    for module in modules_in("services.errors", "services.middleware", "services.serving"):
        assert not [name for name in module.imports if under(name, "services.api_gateway", "services.worker")]


def test_every_module_says_what_it_is_for() -> None:
    packages = {name for name, path in paths_of_all().items() if path.name == "__init__.py"}
    silent = [m.name for m in modules() if m.name not in packages and not ast.get_docstring(m.tree)]
    assert silent == []


HEAVY: Final = ("av", "PIL", "alembic", "sqlalchemy", "google", "aioboto3", "openai", "psycopg")

LOADED: Final = """
import sys
import {module}
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & {{{names}}}))
print(*sorted(name for name in sys.modules if name.startswith("shared.adapters.")))
"""


@pytest.mark.parametrize("module", ["services.api_gateway.main", "services.worker.main"])
def test_importing_a_service_loads_no_adapter_and_nothing_heavy_and_reads_no_settings(module: str) -> None:
    """A container that starts in a second, and a gateway that carries no decoder."""
    program = LOADED.format(module=module, names=", ".join(map(repr, HEAVY)))
    environment = {**os.environ, "MEDIAFORGE_NONSENSE": "1", "PORT": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    heavy, adapters = done.stdout.split("\n")[:2]
    assert heavy == ""
    assert adapters == "shared.adapters.clock"
