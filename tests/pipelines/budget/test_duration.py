import pytest

from pipelines.budget.duration import refuse_budget, seconds_of, spoken


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20min", 1200), ("90s", 90), ("2h", 7200), ("1h30min", 5400), ("1.5 h", 5400), ("1d", 86400), ("1M", 60)],
)
def test_lengths_of_time(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20", "a length of time expected"),
        ("", "a length of time expected"),
        ("-2h", "a length of time expected"),
        ("2h and more", "a length of time expected"),
        ("3 weeks", "no unit weeks"),
        ("59s", "too short"),
    ],
)
def test_what_is_none_is_refused(text, said):
    with pytest.raises(ValueError, match=f"budget={text}.*{said}"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (60, "1 min"), (5400, "1 h 30 min"), (90061, "1 d 1 h"), (0.2, "0 s")]
)
def test_lengths_in_words(seconds, text):
    assert spoken(seconds) == text


def test_a_step_of_a_run_takes_no_budget():
    refuse_budget("pipelines.tasks.run:run", {"budget": "2h"})
    refuse_budget("pipelines.tasks.train_stage1:train_stage1", {"budget": None})
    with pytest.raises(ValueError, match=r"budget=2h is for a whole run: give it to pipelines.run"):
        refuse_budget("pipelines.tasks.train_stage1:train_stage1", {"budget": "2h"})
