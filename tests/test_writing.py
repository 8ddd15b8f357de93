"""A file is there whole or not at all, and what was there before stays until then."""

import pytest

from covid_utils.writing import whole


def test_a_whole_file_gets_its_name_and_its_folder(tmp_path):
    path = tmp_path / "new" / "a.csv"
    with whole(path) as partial:
        partial.write_text("1")
        assert partial.suffix == path.suffix
        assert not path.exists()
    assert path.read_text() == "1"
    assert [file.name for file in path.parent.iterdir()] == ["a.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half"), whole(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("half")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
