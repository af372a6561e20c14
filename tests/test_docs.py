"""The documentation says what the code does: keys, defaults, refusals, numbers, places."""

from __future__ import annotations

import doctest
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from burnish.cli.main import main
from burnish.config import PretrainConfig, RunConfig, TrainConfig, build_config, load_config
from burnish.template.remedies import REMEDIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "burnish"
CONFIG_PAGE = ROOT / "docs" / "config.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
MASKS = ROOT / "docs" / "masks.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

REQUIRED = "required"
TOP_FOLDERS = ("src", "tests", "docs", "benchmarks", ".ci")
"""A path in a page that begins with one of these is meant from the root of the project."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(page: Path, title: str) -> str:
    """What stands under a heading of the second level."""
    _, _, behind = page.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    assert behind, f"{page.name} has no section {title!r}"
    return behind.partition("\n## ")[0]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def documented(text: str) -> dict[str, Any]:
    """The keys of all key tables in the text with their defaults."""
    found: dict[str, Any] = {}
    in_table = False
    for line in text.splitlines():
        row = cells(line) if line.startswith("|") else []
        if row == ["key", "type", "default", "what it does"]:
            in_table = True
        elif not row:
            in_table = False
        elif in_table and not set(line) <= set("|- "):
            assert len(row) == 4, line
            key, default = row[0].strip("`"), row[2].strip("`")
            assert key not in found, f"{key} stands in two rows"
            found[key] = default if default == REQUIRED else yaml.safe_load(default)
    return found


def defaults(kind: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every key of a config, dotted, with its default as YAML would give it."""
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= defaults(type(field.default), f"{prefix}{name}.")
        else:
            default = REQUIRED if field.default is PydanticUndefined else field.get_default()
            found[prefix + name] = list(default) if isinstance(default, tuple) else default
    return found


# docs/config.md


def test_every_key_of_a_run_is_documented_with_its_default() -> None:
    assert documented(section(CONFIG_PAGE, "Keys")) == defaults(RunConfig)


def test_every_key_of_pretraining_is_documented_with_its_default() -> None:
    """Of its ``train`` section, those that differ from a run's."""
    own = {key: value for key, value in defaults(PretrainConfig).items() if not key.startswith("train.")}
    train = PretrainConfig.model_fields["train"].default
    assert isinstance(train, TrainConfig)
    for name, value in train.model_dump(mode="json", exclude_unset=True).items():
        own[f"train.{name}"] = value
    assert documented(section(CONFIG_PAGE, "burnish pretrain")) == own


def test_keys_stand_under_the_heading_of_their_section() -> None:
    for part in section(CONFIG_PAGE, "Keys").split("\n### ")[1:]:
        title = part.splitlines()[0].strip()
        assert {key.partition(".")[0] for key in documented(part)} == {title}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's run.yaml, in the folder in which commands are typed."""
    (text,) = blocks(CONFIG_PAGE, "yaml")
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(text, encoding="utf-8")
    return Path("run.yaml")


def test_the_example_config_loads_and_says_what_it_says(example: Path) -> None:
    config = load_config(example)
    assert build_config(RunConfig, example) == config
    written = yaml.safe_load(example.read_text(encoding="utf-8"))
    loaded = config.model_dump(mode="json")
    for name, value in written.items():
        for key, setting in value.items() if isinstance(value, dict) else ():
            # YAML 1.1 reads 1e-4 as text; the config makes a number of it.
            wanted = float(setting) if isinstance(loaded[name][key], float) else setting
            assert loaded[name][key] == wanted, f"{name}.{key}"
    assert config.out == written["out"]


def test_what_is_refused_looks_as_shown(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Path("runs/taken")
    taken.mkdir(parents=True)
    (taken / "config.yaml").write_text("", encoding="utf-8")
    shown = blocks(CONFIG_PAGE, "console")
    assert shown
    for block in shown:
        command, _, says = block.partition("\n")
        monkeypatch.setattr("sys.argv", shlex.split(command.removeprefix("$ ")))
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 1
        assert capsys.readouterr().err == says


# docs/architecture.md


@pytest.mark.parametrize("page", [ARCHITECTURE, MASKS], ids=lambda page: page.name)
def test_what_python_answers_on_a_page_is_what_it_answers(page: Path) -> None:
    text = "".join(blocks(page, "pycon"))
    assert text.count(">>>") > 10
    found = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report: list[str] = []
    doctest.DocTestRunner().run(found, out=report.append)
    assert not report, "".join(report)


def test_the_commands_about_masks_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (rows,) = blocks(MASKS, "json")
    Path("rows.jsonl").write_text(rows, "utf-8")
    lines = [line for block in blocks(MASKS, "sh") for line in block.splitlines()]
    assert {line.split()[1] for line in lines} == {"show", "check"}
    for line in lines:
        monkeypatch.setattr("sys.argv", shlex.split(line))
        with pytest.raises(SystemExit) as leaving:
            main()
            raise SystemExit(0)
        assert not leaving.value.code, capsys.readouterr()
    assert "2 of 3" not in capsys.readouterr().out
    assert Path("tokens.html").is_file()


def test_every_remedy_is_documented_with_what_it_does() -> None:
    lines = [cells(line) for line in section(MASKS, "Where a template breaks a law").splitlines()]
    table = {row[0].strip("`"): row[1] for row in lines if len(row) == 2 and row[0].startswith("`")}
    assert table == REMEDIES


def test_the_order_of_imports_is_the_one_that_is_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    assert "\n".join(layers) + "\n" in blocks(ARCHITECTURE, "text")


def test_every_room_is_described() -> None:
    described = {
        cells(line)[0].strip("`/") for line in section(ARCHITECTURE, "The rooms").splitlines() if line
    }
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert folders | files <= described


# Places


def links(page: Path) -> Iterator[str]:
    """Targets of the page's links within the project, without their anchors."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            yield target.partition("#")[0]


def places(page: Path) -> Iterator[str]:
    """What stands in backticks and names a file or a folder of the project."""
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for quoted in re.findall(r"`([^`\s]+)`", without_blocks(page.read_text(encoding="utf-8"))):
        first, slash, _ = quoted.partition("/")
        if slash and (first in TOP_FOLDERS or first in rooms):
            yield quoted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_place_that_is_named_exists(page: Path) -> None:
    """A path from the root of the project, or a room (and a file in it) of the package."""
    missing = [
        place for place in places(page) if not (ROOT / place).exists() and not (PACKAGE / place).exists()
    ]
    assert missing == []


def test_places_and_links_are_found() -> None:
    assert "src/burnish/recipes/sft.py" in set(places(ARCHITECTURE))
    assert "data/" in set(places(ARCHITECTURE))
    assert "config.md" in set(links(ARCHITECTURE))
