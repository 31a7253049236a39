import pytest

from pipelines.report.formatting import count, number, percent, plus_minus


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


@pytest.mark.parametrize(
    ("mean", "deviation", "shown"),
    [
        (2.2534, 0.0123, "2.253 ± 0.012"),
        (2.1, 0.1, "2.10 ± 0.10"),
        (12345.6, 321.0, "12,346 ± 321"),
        (1.5, 0.0, "1.5 ± 0"),
    ],
)
def test_means_have_the_digits_of_their_deviation(mean, deviation, shown):
    assert plus_minus(mean, deviation) == shown
