"""Files and folders of the Hugging Face hub: `hub:owner/repo[@revision][/file]`, kept in its usual
cache, and pushed there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants, errors, hf_hub_download
from huggingface_hub.file_download import repo_folder_name

PREFIX = "hub:"
PATTERN = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/(.+))?")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PIPELINE = (CONFIG, "*.safetensors", "presets/*.yaml")
"""The files of a pipeline."""
TRIES = 3
"""How often a repository that changes while it is read is read again."""
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack")
"""Names of files that may hold weights, where none is asked for and none is known."""


class HubName(NamedTuple):
    """What a name of the hub says; the rest is none."""

    repo: str
    revision: str | None
    file: str | None


def parse_hub(name: str) -> HubName:
    """`hub:owner/repo@revision/path/in/repo.pt`; revision and path may be left out. ValueError."""
    found = PATTERN.fullmatch(name)
    if not found:
        raise ValueError(f"{name!r} is no file of the hub: write hub:owner/repo[@revision][/file]")
    return HubName(*found.groups())


def fetch(
    name: str,
    file: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    known: Sequence[str] = (),
) -> Path:
    """The path of a file of the hub in the local cache, downloaded if it is not there yet.

    file, revision: as in `name`, where it has none. Without a file, the first of `known` that the
    repository has, or its model.safetensors, or its one file of weights. A config.json beside a
    model.safetensors is fetched too. token: else HF_TOKEN, or the one that is logged in; HF_HOME
    and HF_HUB_OFFLINE are heeded. A download that breaks goes on where it broke.
    FileNotFoundError or ValueError, in one line.
    """
    repo, its_revision, its_file = parse_hub(name)
    revision = its_revision or revision
    file = its_file or file
    with _explained(repo, file, revision):
        if file is None:
            file = _chosen(repo, _files_of(repo, revision, token), known)
        path = hf_hub_download(repo, file, revision=revision, token=token)
        folder, _, last = file.rpartition("/")
        if last == WEIGHTS:
            _fetch_config(repo, f"{folder}/{CONFIG}".lstrip("/"), revision, token)
    return Path(path)


def fetch_folder(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a pipeline of the hub in the local cache, all of one commit; as `fetch`."""
    repo, its_revision, file = parse_hub(name)
    if file is not None:
        raise ValueError(f"{name} is a file: a pipeline is named {PREFIX}owner/repo[@revision]")
    revision = its_revision or revision
    with _explained(repo, None, revision):
        for _ in range(TRIES):
            files = _files_of(repo, revision, token)
            wanted = [file for file in files if any(fnmatch(file, kind) for kind in PIPELINE)]
            if CONFIG not in wanted:
                raise FileNotFoundError(f"{repo} is no pipeline: it has no {CONFIG}")
            paths = [hf_hub_download(repo, f, revision=revision, token=token) for f in wanted]
            folders = {path.removesuffix(file) for path, file in zip(paths, wanted, strict=True)}
            if len(folders) == 1:
                return Path(folders.pop())
    raise ValueError(f"{repo} changes while it is read: name a commit, {PREFIX}{repo}@COMMIT")


def is_cached(path: Path) -> bool:
    """Whether a folder is in the cache."""
    return path.absolute().is_relative_to(_cache().absolute())


def check_repo(repo: str) -> None:
    """ValueError for what is no `owner/repo` alone."""
    if parse_hub(PREFIX + repo) != (repo, None, None):
        raise ValueError(f"{PREFIX}{repo}: a push goes to owner/repo, without a revision or a file")


def push_folder(
    folder: Path, repo: str, token: str | None = None, private: bool | None = None
) -> str:
    """Make a folder what `owner/repo` of the hub holds, which is created if it is not there.

    -> its address. token: as `fetch` has it. private: of a new one. ValueError in a line.
    """
    with _push_explained(repo):
        check_repo(repo)
        api = HfApi(token=token)
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            delete_patterns=list(PIPELINE),
            commit_message="Shared by maskgit",
        )
    return str(url)


@contextmanager
def _push_explained(repo: str) -> Iterator[None]:
    """What goes wrong with a push, in one line that names the remedy."""
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{PREFIX}{repo}: {_line(error)}") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        remedy = "try again later: what has arrived is not sent again"
        if status in (401, 403, 404):
            remedy = "set HF_TOKEN to a token that may write there, or log in (`hf auth login`)"
        raise ValueError(f"the hub answers {status} to a push to {repo}: {remedy}") from None
    except errors.OfflineModeIsEnabled:
        raise ValueError("HF_HUB_OFFLINE is set: unset it to push") from None
    except RuntimeError as error:
        if not isinstance(error.__cause__, errors.HTTPError | OSError):
            raise
        raise ValueError(
            f"{_line(error)} ({_line(error.__cause__)}): the same command goes on"
        ) from None
    except errors.HTTPError as error:
        raise ValueError(
            f"{constants.ENDPOINT} cannot be reached ({_line(error)}): the same command goes on"
        ) from None


def _fetch_config(repo: str, file: str, revision: str | None, token: str | None) -> None:
    """If there is one; a reader finds it beside the weights."""
    try:
        hf_hub_download(repo, file, revision=revision, token=token)
    except errors.EntryNotFoundError:
        return


def _files_of(repo: str, revision: str | None, token: str | None) -> list[str]:
    """The files of a repository; of what is in the cache, where there is no way to ask."""
    try:
        info = HfApi().model_info(repo, revision=revision, token=token)
        return sorted(sibling.rfilename for sibling in info.siblings or ())
    except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:
        snapshot = _snapshot(repo, revision)
        if snapshot is None or _is_answer(error):
            raise
        paths = (path for path in snapshot.rglob("*") if path.is_file())
        return sorted(path.relative_to(snapshot).as_posix() for path in paths)


def _is_answer(error: Exception) -> bool:
    """Whether the hub itself has refused: its cache does not help then."""
    return isinstance(error, errors.HfHubHTTPError) and error.response.status_code < 500


def _snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision in the cache, if it is there."""
    revision = revision or constants.DEFAULT_REVISION
    folder = _cache() / repo_folder_name(repo_id=repo, repo_type="model")
    ref = folder / "refs" / revision
    snapshot = folder / "snapshots" / (ref.read_text().strip() if ref.is_file() else revision)
    return snapshot if snapshot.is_dir() else None


def _cache() -> Path:
    return Path(constants.HF_HUB_CACHE).expanduser()


def _chosen(repo: str, files: Sequence[str], known: Sequence[str]) -> str:
    """The file that is meant, where none is named; ValueError with their names if it is not one."""
    found = list(dict.fromkeys(name for name in (*known, WEIGHTS) if name in files))
    if found:
        if len(found) > 1:
            others = ", ".join(found[1:])
            print(f"taking {found[0]} of {PREFIX}{repo} (there: {others})", file=sys.stderr)
        return found[0]
    weights = [name for name in files if name.endswith(SUFFIXES)]
    if len(weights) == 1:
        return weights[0]
    listed = ", ".join(weights[:12] or files[:12]) or "nothing"
    raise ValueError(f"which file of {PREFIX}{repo}? name one, as {PREFIX}{repo}/FILE: {listed}")


@contextmanager
def _explained(repo: str, file: str | None, revision: str | None) -> Iterator[None]:
    """What goes wrong with the hub, in one line that names the remedy."""
    try:
        yield
    except errors.GatedRepoError:
        raise ValueError(
            f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{repo}, "
            "and set HF_TOKEN to a token of that account"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{constants.ENDPOINT} has no {repo} for you: check the name, or, if it is private, "
            "set HF_TOKEN to a token that may read it"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{repo} has no revision {revision!r}: name a branch, a tag or a commit"
        ) from None
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise ValueError(_refused(repo, error.__cause__)) from None
        raise FileNotFoundError(_not_cached(repo, file)) from None
    except errors.EntryNotFoundError:
        raise FileNotFoundError(
            f"{repo} has no file {file!r}: see {constants.ENDPOINT}/{repo}/tree/"
            f"{revision or constants.DEFAULT_REVISION}"
        ) from None
    except errors.HFValidationError as error:
        raise ValueError(f"{PREFIX}{repo}: {_line(error)}") from None
    except errors.HfHubHTTPError as error:
        raise ValueError(_refused(repo, error)) from None
    except (errors.OfflineModeIsEnabled, errors.HTTPError):
        raise FileNotFoundError(_not_cached(repo, file)) from None
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{repo} could not be downloaded, try again: {_line(error)}") from None


def _not_cached(repo: str, file: str | None) -> str:
    what = f"{repo}/{file}" if file else f"what {repo} holds"
    line = f"{what} is not in the cache {_cache()}, and "
    if constants.HF_HUB_OFFLINE:
        return line + "HF_HUB_OFFLINE is set: unset it, or give the path of a file"
    return line + f"{constants.ENDPOINT} cannot be reached: check the connection, or give a file"


def _refused(repo: str, error: errors.HfHubHTTPError) -> str:
    """What an answer of the hub that is no other error means."""
    status = error.response.status_code
    if status in (401, 403):
        set_by = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the token"
        return f"the hub refuses {repo} ({status}): {set_by} is not valid, or may not read it"
    return f"the hub answers {status} for {repo}: try again later"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
