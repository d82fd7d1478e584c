"""What the pages say is there: links, paths, and the options of every command that they show."""

import re
import shlex

import pytest
import tyro
from fixtures.command import ROOT

from jobs.cli.command_line import common_options
from jobs.cli.train_options import Train
from jobs.commands.export import Export
from jobs.commands.merge import Merge
from jobs.lamp_data import OPTIONS
from jobs.lamp_policy import load_command

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
HOUSES = ("schemas/", "pipeline/", "lamp_model/", "jobs/", "tests/", "docs/", "data/", "benchmarks/")


def shown_commands():
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"^(\w+=\S* )+", "", line)  # without variables before it
                if command.startswith(("lamp-data", "lamp-train", "lamp-policy")) and " ... " not in f"{command} ":
                    yield page.name, shlex.split(re.sub(r"\bDIR\S*", ".", command), comments=True)


@pytest.mark.parametrize(("page", "words"), shown_commands(), ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_every_command_shown_can_be_read(page, words):
    program, *rest = words
    rest = common_options(rest).arguments
    if any(word.startswith("--tyro-print-completion") for word in rest):
        return
    if program == "lamp-train":
        others = {"export": Export, "merge": Merge}
        kind, rest = (others[rest[0]], rest[1:]) if rest and rest[0] in others else (Train, rest)
    elif program == "lamp-policy":
        (kind, _), rest = load_command(rest[0]), rest[1:]
    elif rest:
        kind, rest = OPTIONS[rest[0]], rest[1:]
    else:
        return
    tyro.cli(kind, args=rest, console_outputs=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_the_text_is_there(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    paths = [path for path in re.findall(r"`([\w./-]+)`", prose) if path.startswith(HOUSES) and "NAME" not in path]
    there = [path for path in paths if not path.startswith("data/") or path.startswith("data/libero")]
    assert [path for path in there if not (ROOT / path).exists()] == []
