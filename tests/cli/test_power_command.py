"""``rankwise power`` prints what comparisons promise and what they can find."""

from __future__ import annotations

from rankwise.cli.main import main


def percents(line):
    return [float(word) for word in line.replace("%", " ").split()]


def test_the_tables_say_how_often_comparisons_err_and_what_they_find(capsys):
    assert main(["power", "--seeds", "3", "10", "--methods", "1", "9"]) == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "%" in line and "A/A" not in line
    ]
    few, many = map(percents, lines[:2])
    assert (few[0], many[0]) == (3, 10)
    # Of 400 comparisons: two standard errors above what is promised.
    assert max(*few[1:], *many[1:]) <= 5 + 2 * 1.1
    found = {tuple(row[:2]): row[2:] for row in map(percents, lines[2:])}
    assert set(found) == {(3, 1), (3, 9), (10, 1), (10, 9)}
    # Two deviations of a score with ten seeds: found in at least 90 % of comparisons.
    assert found[10, 1][3] >= 90
    assert all(row == sorted(row) for row in found.values())
    assert all(one >= nine for one, nine in zip(found[10, 1], found[10, 9], strict=True))


def test_one_seed_is_a_mistake(capsys):
    assert main(["power", "--seeds", "1"]) == 2
    assert "--seeds must be at least 2, got 1" in capsys.readouterr().err
