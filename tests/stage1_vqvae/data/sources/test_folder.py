from __future__ import annotations

from pathlib import Path

from stage1_vqvae.data.sources.folder import file_identity


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    before = file_identity([path])
    assert file_identity([path]) == before
    path.write_bytes(b"22")
    assert file_identity([path]) != before
