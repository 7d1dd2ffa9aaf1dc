"""The map is checked: ARCHITECTURE.md names every file of the package, and nothing that is not."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "manyhands"
PAGE = ROOT / "ARCHITECTURE.md"


def on_the_map(page: str) -> set[str]:
    """The files of the tables: `folder/` in the first column, `name` of each file in the second."""
    found = set()
    for folder, files in re.findall(r"^\| `([a-z_]*/?)` \| (.+) \|$", page, re.MULTILINE):
        prefix = "" if folder == "/" else folder
        found |= {f"{prefix}{name}.py" for name in re.findall(r"`([a-z_0-9]+)`", files)}
    return found


def on_disk(package: Path) -> set[str]:
    return {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_file_is_on_the_map_and_everything_on_the_map_exists():
    mapped, real = on_the_map(PAGE.read_text(encoding="utf-8")), on_disk(PACKAGE)
    assert sorted(real - mapped) == [], "files the page does not name"
    assert sorted(mapped - real) == [], "names on the page without a file"


def test_a_missing_and_an_invented_file_are_noticed(tmp_path):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "cost.py").touch()
    (tmp_path / "errors.py").touch()
    page = "| `/` | `errors` the tree |\n| `plan/` | `cost` seconds · `gone` nothing |\n"
    assert on_the_map(page) - on_disk(tmp_path) == {"plan/gone.py"}
    assert on_disk(tmp_path) - on_the_map("| `/` | `errors` the tree |\n") == {"plan/cost.py"}


def test_every_folder_of_the_package_says_its_job():
    for folder in sorted(path.parent for path in PACKAGE.rglob("*.py")):
        opened = (folder / "__init__.py").read_text(encoding="utf-8")
        assert opened.startswith('"""'), folder
