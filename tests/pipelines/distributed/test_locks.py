from pipelines.distributed.locks import try_lock


def test_a_lock_is_held_by_one(tmp_path):
    with try_lock(tmp_path / "a" / "lock") as first, try_lock(tmp_path / "a" / "lock") as second:
        assert (first, second) == (True, False)
    with try_lock(tmp_path / "a" / "lock") as third:
        assert third
