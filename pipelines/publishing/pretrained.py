"""Generators and tokenizers of published folders, of runs and of the hub, by the conventions of ``huggingface_hub``.

The methods are those of its ``ModelHubMixin``, which cannot be a base here: a generator is loaded without importing it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from pipelines.artifacts.models import load_tokenizer
from pipelines.artifacts.origin import Origin
from pipelines.artifacts.run_folder import RunFolder
from pipelines.inputs.paths import path_of
from pipelines.publishing.hub import PREFIX, download, is_on_hub, is_repository, repository, upload
from pipelines.publishing.published import PARTS, Part, check_fingerprint, check_part, read_index
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.settings import SamplingSettings

if TYPE_CHECKING:
    from pipelines.samples import Samples

SHOWN = 40
"""Samples in the picture of a card."""


class Pretrained:
    """What a generator takes from and gives to folders of plain files and the hub."""

    tokenizer: Tokenizer
    prior: Prior
    settings: SamplingSettings
    fingerprint: str
    origin: Origin | None

    load: ClassVar[Callable[..., Any]]
    """Loads a run's folder."""

    sample: Callable[..., Samples]
    """Draws images."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        trust: Sequence[str] = (),
        tokenizer: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Load a model of the Hugging Face hub, or of a folder here.

        Args:
            name: ``user/name`` or ``hf://user/name`` on the hub; or a folder, of :meth:`save_pretrained` or a run's.
                Of a folder and a model on the hub of one name the folder is taken.
            revision: A branch, tag or commit of the hub; None for the newest.
            device: As for :meth:`load`.
            trust: As for :meth:`load`.
            tokenizer: Of a prior alone: name or folder of the tokenizer that it was trained on.
            options: Of ``huggingface_hub.snapshot_download``: ``token``, ``cache_dir``, ``force_download``,
                ``local_files_only``.

        Raises:
            ValueError: If it is neither, cannot be downloaded, is not whole, or tokenizer and prior do not belong
                together.
        """
        folder = find(name, revision, options)
        index = read_index(folder)
        check_part(index, "all" if tokenizer is None else "prior", str(name))
        beside = None if tokenizer is None else find(tokenizer, None, options)
        if beside is not None:
            check_part(read_index(beside), "tokenizer", str(tokenizer))
        found = cls.load(folder, device, trust, beside)
        check_fingerprint(index, "prior", found.origin.fingerprints["prior"], str(name))
        return found

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        part: Part = "all",
        license: str | None = None,
        description: str | None = None,
    ) -> Path:
        """Write a folder to publish: weights, configurations, class names, preprocessing, settings, a model card.

        Nothing is sent. Secrets and this machine's paths are left out. :meth:`from_pretrained` of the folder draws the
        same codes and images.

        Args:
            folder: A new or empty one, or one that this method wrote.
            part: ``all``; or ``tokenizer`` or ``prior`` alone, which :meth:`from_pretrained` puts together again.
            license: Under which others may use it, by its name on the hub: ``mit``, ``apache-2.0``, ``cc-by-4.0``. The
                card says where it is left open.
            description: The first lines of the card.

        Returns:
            The folder.

        Raises:
            ValueError: If the folder holds something else, or the licence is none.
        """
        return self._write(path_of(folder, "folder"), part, license, description)

    def _write(
        self, folder: Path, part: Part, license: str | None, description: str | None, name: str | None = None
    ) -> Path:
        from pipelines.publishing.card import Author  # both import what reads reports
        from pipelines.publishing.folder import Models, write_folder

        if part not in PARTS:
            raise ValueError(f"part: {', '.join(PARTS)} expected, got {part!r}")
        if self.origin is None:
            raise ValueError("the generator was not loaded from a run, which knows how its images were prepared")
        models = Models(self.tokenizer, self.prior, self.settings, self.origin, lambda: self.sample(SHOWN).grid())
        write_folder(folder, models, part, Author(license, description, name))
        return folder

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        part: Part = "all",
        description: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = "Add the model",
    ) -> str:
        """Send what :meth:`save_pretrained` writes to the Hugging Face hub.

        Args:
            repo_id: ``user/name``; it is made where there is none.
            license, part, description: Those of :meth:`save_pretrained`. A licence is needed.
            private: Whether a new repository is private; None for the account's default.
            token: Of the hub; None for that of ``hf auth login`` or of ``HF_TOKEN``.
            branch: To which it is sent; None for ``main``.
            create_pr: Whether a pull request is made of it.
            commit_message: Of the one commit.

        Returns:
            The address of the commit.

        Raises:
            ValueError: If no licence is named, or the hub refuses it or cannot be reached.
        """
        check_can_be_sent(repo_id, license)
        with tempfile.TemporaryDirectory() as beside:
            folder = self._write(Path(beside, "model"), part, license, description, repo_id.removeprefix(PREFIX))
            options = {"revision": branch, "create_pr": create_pr, "commit_message": commit_message}
            return upload(folder, repo_id.removeprefix(PREFIX), private, token, **options)

    def play(self, host: str = "127.0.0.1", port: int | None = None) -> Any:
        """Open a page to try the generator in, which a notebook shows; needs the extra ``[play]``.

        Args:
            host, port: Those of :func:`~pipelines.playground.app.open_page`, which opens it.

        Returns:
            Gradio's ``Blocks``, whose ``close`` closes the page.
        """
        from pipelines.playground.app import open_page  # imports what draws pictures

        return open_page(self, host, port)


def tokenizer_from_pretrained(
    name: str | Path, *, revision: str | None = None, trust: Sequence[str] = (), **options: Any
) -> Tokenizer:
    """The tokenizer of a model on the hub, of a published folder, or of a run, in eval mode on the CPU.

    Args:
        name, revision, trust, options: Those of :meth:`Pretrained.from_pretrained`.

    Raises:
        ValueError: If there is none, or it cannot be downloaded or is not whole.
    """
    folder = find(name, revision, options)
    index = read_index(folder)
    if index.get("part") == "prior":
        raise ValueError(f"{name} is a prior alone, without a tokenizer")
    tokenizer, saved = load_tokenizer(RunFolder(folder).tokenizer, trust)
    check_fingerprint(index, "tokenizer", saved.fingerprint, str(name))
    return tokenizer


def find(name: str | Path, revision: str | None, options: dict[str, Any]) -> Path:
    """The folder of a model here or on the hub; the arguments are those of :meth:`Pretrained.from_pretrained`."""
    path = path_of(name, "name")
    if not is_on_hub(name) and path.exists():
        return path
    if not is_on_hub(name) and not is_repository(name):
        raise ValueError(f"{name}: there is no such folder, and the hub's names are user/name")
    repo, named = repository(str(name))
    if revision is not None and named is not None:
        raise ValueError(f"{PREFIX}{repo}@{named} and revision={revision}: give one of the two")
    try:
        return download(repo, revision or named, **options)
    except ValueError as error:
        raise error if is_on_hub(name) else ValueError(f"{error}; and there is no folder {name} here") from error


def check_can_be_sent(repo_id: str, license: str | None) -> None:
    """Raise ValueError unless a model has a name to be sent to and a licence, before any work begins."""
    if not isinstance(repo_id, str) or repository(repo_id)[1] is not None:
        raise ValueError(f"{repo_id}: user/name expected")
    if license is None:
        raise ValueError("license: say under which licence others may use the model, license=mit or license=cc-by-4.0")
