"""Fetching a checkpoint from the hub into its local cache: configuration, tokenizer and safetensors, nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from headway.models.errors import ModelError

Progress = Callable[[str, float | None], None]
"""Told what is going on, and how far it is (0 to 1, None when that isn't known)."""

REPOSITORY_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

ALLOWED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
)
"""The files that are ever downloaded. None of them can hold code."""


def download(repository: str, progress: Progress | None = None) -> Path:
    """The local snapshot of a hub repository, downloaded where it isn't there yet. Raises ``ModelError``."""
    # Slow to import, and needed only here.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if progress is not None:
        progress(f"fetching {repository} from the hub", None)
    try:
        return Path(snapshot_download(repository, allow_patterns=list(ALLOWED), ignore_patterns=["*/*"]))
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{repository}: not in the local cache, and the hub can't be reached; "
            "give a local directory, or run once with a connection"
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no")
        raise ModelError(f"{repository}: the hub answered with status {status} (unknown, private or gated?)") from error
    except (HFValidationError, OSError) as error:
        raise ModelError(f"{repository}: download failed: {_first_line(error)}") from error


def cache_root(snapshot: Path) -> Path:
    """The folder of one repository in the hub cache: snapshots are links into its blobs."""
    return snapshot.parent.parent


def _first_line(error: Exception) -> str:
    return (
        (str(error) or type(error).__name__).splitlines()[0]
        if not isinstance(error, OSError)
        else (error.strerror or os.fspath(error.filename or "") or type(error).__name__)
    )
