"""The arrows between the houses: jobs -> pipeline, lamp_model -> schemas."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "pipeline": {"pipeline", "schemas"},
    "lamp_model": {"lamp_model", "schemas"},
    "jobs": {"jobs", "pipeline", "lamp_model", "schemas"},
}
MODULES = [(house, path) for house in MAY_IMPORT for path in sorted((ROOT / house).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize(("house", "path"), MODULES, ids=lambda v: str(v).removeprefix(str(ROOT) + "/"))
def test_arrows_point_one_way(house, path):
    used = {name.split(".")[0] for name in imported(path)} & set(MAY_IMPORT)
    assert used <= MAY_IMPORT[house]


def rooms_imported(house: str) -> dict[str, set[str]]:
    """Which rooms (modules and folders right below a house) each room imports."""
    arrows: dict[str, set[str]] = {}
    for path in (ROOT / house).rglob("*.py"):
        own = path.relative_to(ROOT / house).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            others = {name.split(".")[1] for name in names if name.startswith(f"{house}.")}
            arrows.setdefault(own, set()).update(others - {own})
    return arrows


def in_circles(arrows: dict[str, set[str]]) -> set[str]:
    """Rooms from which the arrows lead back to them."""

    def reached(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    return {room for room in arrows if room in reached(room)}


@pytest.mark.parametrize("house", ["pipeline", "lamp_model", "jobs"])
def test_no_arrow_between_rooms_leads_back(house):
    assert in_circles(rooms_imported(house)) == set()


def test_a_circle_is_found():
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


def test_schemas_needs_only_numpy_at_import():
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in (ROOT / "schemas").glob("*.py")
        if p.stem != "__init__"
    ]
    code = (
        f"import sys; before = set(sys.modules); [__import__(n) for n in {names!r}]; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(*sorted(m for m in new if m not in sys.stdlib_module_names and not m.startswith('_')))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert set(out) <= {"numpy", "jaxtyping", "wadler_lindig", "schemas"}


def test_every_module_says_what_it_is():
    for _, path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_drawer_for_odds_and_ends():
    for _, path in MODULES:
        assert not {"utils", "common", "misc", "helpers"} & set(path.relative_to(ROOT).with_suffix("").parts), path
