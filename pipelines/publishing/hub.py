"""Names of models on the Hugging Face hub, downloads and uploads. Each error of the hub is said in one line.

Nothing is sent unless :func:`upload` is called. A login is the hub's own (``hf auth login`` or ``HF_TOKEN``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stage1_vqvae.files import read_json, write_json

PREFIX = "hf://"
"""What a model's name on the hub begins with, where a folder may stand too: ``model=hf://user/name``."""

DOWNLOADED = Path("runs", "hf")
"""Folder for the runs' folders of models that commands download."""

NOTES = Path(".cache", "huggingface")
"""In a folder, where the hub's client notes what it has downloaded."""

WHOLE = NOTES / "whole.json"
"""Written when all files of one commit are there: without it a folder is not taken for a model."""

KEYS = ("model", "tokenizer")
"""Keys of commands that name a run."""

WANTED = ("*.json", "*.yaml", "*.safetensors", "*.md", "*.png")
"""Files of a repository that are downloaded: plain data. Whatever else lies there stays there."""

REPLACED = ("tokenizer/*", "prior/*", "samples.png")
"""Files that are removed from a repository where the folder that is sent has them no longer."""

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")


class Unreachable(ValueError):
    """The hub cannot be reached."""


def is_on_hub(name: Any) -> bool:
    """Whether a model's name says that it is on the hub."""
    return isinstance(name, str) and name.startswith(PREFIX)


def is_repository(name: Any) -> bool:
    """Whether a text could be the name of a repository, ``user/name``."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def repository(name: str) -> tuple[str, str | None]:
    """The repository ``user/name`` and the revision, if there is one, of ``hf://user/name@revision``.

    Raises:
        ValueError: If it is no such name.
    """
    found = _NAME.fullmatch(name.removeprefix(PREFIX))
    if found is None:
        raise ValueError(f"{name}: a name on the hub is user/name, or user/name@revision")
    return found[1], found[2]


def with_local_models(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A command's settings in which models of the hub are run folders here, ``runs/hf/user/name``.

    Raises:
        ValueError: If one cannot be downloaded.
    """
    named = {key: settings[key] for key in KEYS if is_on_hub(settings.get(key))}
    return {**settings, **{key: str(as_run_folder(name)) for key, name in named.items()}}


def as_run_folder(name: str) -> Path:
    """Download a model of the hub into a run's folder, to which commands write as to any other.

    What was downloaded before and is no longer in the repository is removed. Where the hub cannot be reached the folder
    is taken as it is.

    Args:
        name: ``hf://user/name``, with ``@revision`` behind it where it is not the newest.

    Raises:
        ValueError: If there is no such model, or it was never downloaded and the hub cannot be reached.
    """
    from pipelines.cli.console import console  # imports rich, which a generator does without

    repo, revision = repository(name)
    folder = DOWNLOADED / (repo if revision is None else f"{repo}@{revision.replace('/', '-')}")
    whole = folder / WHOLE
    try:
        commit, names = contents(repo, revision)
        if not (whole.exists() and read_json(whole)["commit"] == commit):
            whole.unlink(missing_ok=True)
        download(repo, commit, local_dir=folder)
        remove_dropped(folder, names)
        write_json(whole, {"commit": commit})
    except Unreachable:
        if not whole.exists():
            raise
    console.print(f"{name}: in {folder}")
    return folder.absolute()


def contents(repo: str, revision: str | None) -> tuple[str | None, set[str]]:
    """The commit that a revision is, and the names of its files.

    Raises:
        ValueError: If there is no such repository or revision, or, of class :class:`Unreachable`, no network.
    """
    from huggingface_hub import HfApi

    with said_in_one_line(repo, revision):
        found = HfApi().model_info(repo, revision=revision)
    return found.sha, {each.rfilename for each in found.siblings or ()}


def remove_dropped(folder: Path, names: Collection[str]) -> None:
    """Remove what the hub's client once downloaded into a folder and the repository no longer has.

    What else lies there, such as results of commands, stays.
    """
    kept = folder / NOTES / "download"
    for note in [*kept.rglob("*.metadata")]:
        name = note.relative_to(kept).as_posix().removesuffix(".metadata")
        if name not in names:
            (folder / name).unlink(missing_ok=True)
            note.unlink(missing_ok=True)  # another command may do the same


def download(repo: str, revision: str | None = None, **options: Any) -> Path:
    """Download a repository's plain files; those that are here already are not downloaded again.

    Args:
        repo: ``user/name``.
        revision: A branch, tag or commit; None for the newest.
        options: Of ``huggingface_hub.snapshot_download``.

    Returns:
        Their folder.

    Raises:
        ValueError: If there is no such repository or revision, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with said_in_one_line(repo, revision):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(WANTED), **options))


def upload(folder: Path, repo: str, private: bool | None, token: str | None, **options: Any) -> str:
    """Send a folder to the hub, in one commit; the repository is made where there is none.

    Args:
        folder: What :func:`~pipelines.publishing.folder.write_folder` left.
        repo: ``user/name``.
        private: Whether a new repository is private; None for the account's default.
        token: Of the hub; None for that of the login.
        options: Of ``huggingface_hub.HfApi.upload_folder``.

    Returns:
        The address of the commit.

    Raises:
        ValueError: If the name is none, or the hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with said_in_one_line(repo, options.get("revision")):
        made = api.create_repo(repo, private=private, exist_ok=True).repo_id
        sent = api.upload_folder(repo_id=made, folder_path=folder, delete_patterns=list(REPLACED), **options)
        return str(sent.commit_url)


@contextmanager
def said_in_one_line(repo: str, revision: str | None) -> Iterator[None]:
    """Raise ValueError, of one line, in place of what the hub's client raises."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ValueError(f"{repo}: its owner asks to accept terms: do so on its page, then `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{repo}: there is no revision {revision}") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{repo}: there is no such model on the hub, or it is not yours to see: check the name, or `hf auth login`"
        ) from error
    except errors.HfHubHTTPError as error:
        reason = str(error).strip().splitlines()
        raise ValueError(f"{repo}: the hub refuses it ({reason[-1] if reason else error!r})") from error
    except Exception as error:
        network = type(error).__module__.startswith("httpx")  # which of its versions the hub's client uses, it decides
        if not (network or isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled)):
            raise
        raise Unreachable(
            f"{repo}: the hub cannot be reached, and no copy is here: try again with a network"
        ) from error
