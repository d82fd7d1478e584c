"""Terms of use reach whoever uses the shards: in the manifest, at the start of the build, and when somebody looks."""

from dataclasses import replace

import pytest
from fixtures.inspection import inspect, seen, several, write_set
from fixtures.libero import QUALITY, Demo, write_file

from jobs.cli.build_options import Build
from jobs.cli.exit_codes import UsageError
from jobs.commands.build import build_command
from pipeline.licences import licences_of, restriction_words, restrictions
from pipeline.readers.interndata_a1 import INFO
from pipeline.recipe import Recipe
from schemas.manifest import read_manifest
from schemas.plugins import PluginChoice


@pytest.mark.parametrize(
    ("licence", "restricted"),
    [
        ("CC BY 4.0", False),
        ("CC BY-NC 4.0", True),
        ("CC-BY-NC-SA-4.0", True),
        ("for non-commercial use only", True),
        ("Noncommercial", True),
        ("Apache-2.0, from the NCSA", False),
    ],
)
def test_what_allows_no_commercial_use_is_known_by_its_words(licence, restricted):
    assert bool(restrictions({"dataset x": licence})) == restricted


def test_the_licences_of_dataset_and_weights_are_gathered_and_only_those_in_use():
    large = PluginChoice("depth-anything-v2", {"size": "large"})
    found = licences_of(Recipe(PluginChoice("interndata-a1"), depth=large))
    assert found["dataset interndata-a1"] == INFO.licence and "NC" in found["depth depth-anything-v2"]
    assert len(restrictions(found)) == 2
    small = licences_of(Recipe(PluginChoice("libero"), depth=PluginChoice("depth-anything-v2", {"size": "small"})))
    assert "Apache" in small["depth depth-anything-v2"] and restriction_words(small) is None
    simulated = licences_of(Recipe(PluginChoice("libero"), flow=PluginChoice("simulator"), depth=large))
    assert list(simulated) == ["dataset libero"], "this flow source uses no depth estimator"


def test_a_part_that_is_a_file_of_ones_own_says_its_licence_too(tmp_path, monkeypatch):
    (tmp_path / "our_licensed_depth.py").write_text(
        "from dataclasses import dataclass\n"
        "LICENCE = 'CC BY-NC 4.0'\n"
        "@dataclass(frozen=True)\nclass Config:\n    pass\n"
        "def build(config):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = licences_of(Recipe(PluginChoice("libero"), depth=PluginChoice("our_licensed_depth")))
    assert found["depth our_licensed_depth"] == "CC BY-NC 4.0" and len(restrictions(found)) == 1


def test_inspect_says_that_shards_are_not_for_commercial_use_by_old_manifests_too(tmp_path, capsys):
    write_set(tmp_path / "shards", several(2), name="interndata-a1", licence=INFO.licence)
    assert inspect(tmp_path / "shards") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "these shards are not for commercial use: dataset: CC BY-NC-SA 4.0" in said
    write_set(tmp_path / "free", several(2), licence="CC BY 4.0")
    inspect(tmp_path / "free")
    assert "commercial" not in capsys.readouterr().out


def test_a_build_writes_them_into_the_manifest_and_warns_only_where_use_is_restricted(tmp_path, capsys):
    write_file(tmp_path / "data" / "a_demo.hdf5", [Demo()])
    asked = Build("libero", input=tmp_path / "data", output=tmp_path / "out", executor="local", quality=QUALITY, grid=6)
    assert build_command(asked) == 0 and "commercial" not in capsys.readouterr().err
    assert read_manifest(tmp_path / "out").licences == {"dataset libero": "MIT (code), CC BY 4.0 (data)"}
    assert seen(tmp_path / "out")[1]["licences"] == {"dataset libero": "MIT (code), CC BY 4.0 (data)"}
    with pytest.raises(UsageError):
        build_command(replace(asked, dataset="interndata-a1"))
    assert "these shards are not for commercial use: dataset interndata-a1" in capsys.readouterr().err
