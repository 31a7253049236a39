import os
import subprocess
import sys
from pathlib import Path

from pipelines.distributed.environment import temporary_folder


def test_every_user_has_temporary_files_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folders = set()
    for user in (1000, 1001):
        monkeypatch.setattr("os.getuid", lambda user=user: user)
        folders.add(temporary_folder())
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path}


def test_nothing_in_the_house_names_a_folder_that_all_users_share():
    """A name in the common temporary folder belongs to whoever made it first."""
    root = Path(__file__).parents[3]
    files = [*root.glob("conf/**/*.yaml"), *root.glob("pipelines/**/*.py"), *root.glob("stage*/**/*.py")]
    named = {path.name for path in files if "/tmp" in (text := path.read_text()) or "gettempdir" in text}
    assert named == {"environment.py"}


def test_sweeps_of_other_commands_use_the_users_own(tmp_path):
    command = [sys.executable, "-m", "pipelines.sample", "--cfg", "hydra", "--package", "hydra.sweep", "--resolve"]
    shown = subprocess.run(
        [*command, "model=x"], capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert f"dir: {tmp_path}/vqvae-prior-{os.getuid()}/sweep" in shown.stdout
