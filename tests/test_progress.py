"""How far a computation is: seen where somebody watches, stored in no notebook; times."""

import pytest

from covid_utils import progress


@pytest.mark.parametrize("is_watched", [True, False])
def test_who_watches_sees_what_is_counted(is_watched, monkeypatch, capsys):
    if is_watched:
        monkeypatch.setenv("JPY_SESSION_NAME", "watched")
    assert [*progress.bar("abc", desc="letters")] == [*"abc"]
    assert ("letters" in capsys.readouterr().err) == is_watched


def test_time_per_item_warms_up_and_goes_round(monkeypatch):
    monkeypatch.setattr(progress, "CALLS", 7)
    seen = []
    times = progress.time_per_item(seen.append, items=3)
    assert seen == [0, 0, 1, 2, 0, 1, 2, 0]
    assert 0 <= times["median"] <= times["p95"]
    assert times["calls"] == len(times["each"]) == 7
