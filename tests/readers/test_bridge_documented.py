"""The BridgeData commands of docs/actions.md, as they are typed there."""

import re
import shlex

import pytest
from fixtures.command import ROOT
from fixtures.depth import depth_anything, save

from jobs.lamp_data import main
from schemas.shard_set import ShardSet

pytest.importorskip("transformers")
TYPED = re.findall(r"^lamp-data (build --dataset bridge .*?) *(?:#.*)?$", (ROOT / "docs/actions.md").read_text(), re.M)


def test_the_bridge_commands_of_the_docs_work_as_typed(tmp_path, monkeypatch, capsys):
    """Only weights are added, small random ones: those that are downloaded are not here."""
    monkeypatch.chdir(ROOT)
    weights = save(tmp_path / "weights", *depth_anything())
    conventions = []
    for number, typed in enumerate(TYPED):
        words, output = shlex.split(typed), tmp_path / str(number)
        words += ["--output", str(output), "--depth-options", f"weights={weights}", "--executor", "local"]
        monkeypatch.setattr("sys.argv", ["lamp-data", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, capsys.readouterr().err
        samples = ShardSet(output)
        conventions.append(samples.read(0).standard_actions.convention.name)
    assert len(conventions) == 2 and len(set(conventions)) == 2
