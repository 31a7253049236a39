"""A job keeps its folder whatever the order and the company in which it is asked for."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sweep.places import digest_of_job, place_job
from pipelines.sweep.records import JobRecord, read_records
from pipelines.sweep.start import forget_unstarted
from tests.support.tiny import TINY, compose


def launch(folder, values):
    """Numbers of the jobs of a sweep over a key's values, in Hydra's order."""
    return [
        place_job(folder, {"seed": 0, "x": {"y": value}}, [f"x.y={value}"], number)["number"]
        for number, value in enumerate(values)
    ]


def test_numbers_follow_the_settings_and_go_on_from_what_is_there(tmp_path):
    assert launch(tmp_path, "ab") == [0, 1]
    assert launch(tmp_path, "ab") == [0, 1]
    assert launch(tmp_path, "xabcd") == [2, 0, 1, 3, 4]
    assert launch(tmp_path, "dcbax") == [4, 3, 1, 0, 2]
    assert [record.overrides for record in read_records(tmp_path)] == [[f"x.y={value}"] for value in "abxcd"]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), max_size=5))
def test_every_job_has_one_number_and_every_number_one_job(tmp_path_factory, launches):
    folder = tmp_path_factory.mktemp("sweep")
    known: dict[int, int] = {}
    for values in launches:
        for value, number in zip(values, launch(folder, values), strict=True):
            assert known.setdefault(value, number) == number
    assert len(set(known.values())) == len(known)


def test_a_folder_that_is_there_is_no_new_jobs_own(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "7").mkdir()
    assert launch(tmp_path, "ab") == [8, 1]


def test_launches_at_once_agree(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(launch(tmp_path, "abcd"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(numbers == found[0] for numbers in found)
    assert sorted(found[0]) == [0, 1, 2, 3]


def test_settings_tell_jobs_apart_unless_they_only_say_where_results_go():
    plain = digest_of_job(compose(*TINY, "output=a"))
    same = compose(*TINY, "output=b", "objective=stage1.psnr", "trust=[tests]", "debug=true", "logger=tensorboard")
    assert digest_of_job(same) == plain
    for word in ("seed=1", "stage1.quantizer.decay=0.5", "sampling.temperature=0.9", "hardware.precision=bf16-mixed"):
        assert digest_of_job(compose(*TINY, "output=a", word)) != plain


def test_how_a_value_is_written_makes_no_other_job():
    written = (["stage2.optimization.learning_rate=0.001"], ["stage2.optimization.learning_rate=1e-3"])
    first, second = (digest_of_job(compose(*TINY, "output=a", *words)) for words in written)
    assert first == second


def test_records_of_another_version_are_known_by_their_settings(tmp_path):
    old = {"seed": 0, "model": {"_target_": "stage1_vqvae.vqvae.VQVAE", "hidden": 64}}  # as 0.1.0 named them
    new = {"seed": 0, "model": {"_target_": "stage1_vqvae.VQVAE", "width": 64}}
    JobRecord(4, ["a=1"], "finished", settings=old, digest="of that version", version="0.0.1").write(tmp_path)
    assert place_job(tmp_path, new, ["a=1"], 0)["number"] == 4


@pytest.mark.parametrize(("words", "number"), [(["seed=1"], 4), (["seed=2"], 0)])
def test_records_without_settings_are_known_by_their_overrides(tmp_path, words, number):
    JobRecord(4, ["seed=1"], "finished").write(tmp_path)
    assert place_job(tmp_path, {"seed": 1}, words, 0)["number"] == number


def test_only_jobs_that_left_nothing_are_forgotten(tmp_path):
    for number, status in enumerate(("failed", "failed", "finished", "running", "stopped")):
        JobRecord(number, status=status).write(tmp_path)
    (tmp_path / "1").mkdir()
    forget_unstarted(tmp_path)
    assert [record.number for record in read_records(tmp_path)] == [1, 2, 3]
