import pytest

from pipelines.report.formatting import count, number, percent


@pytest.mark.parametrize(
    ("value", "shown"),
    [(23.4137, "23.41"), (0.93125, "0.9313"), (1234567.8, "1,234,568"), (1.0, "1"), (0.0, "0"), (float("nan"), "nan")],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_shares_are_in_percent():
    assert percent(0.9921875) == "99.2 %"
    assert percent(1.0) == "100 %"


@pytest.mark.parametrize(("value", "shown"), [(12, "12"), (55123, "55.1 k"), (1234567, "1.23 M"), (7 * 10**9, "7 B")])
def test_large_counts(value, shown):
    assert count(value) == shown
