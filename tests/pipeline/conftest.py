"""What several tests of this wing share."""

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from tests.pipeline.hub_server import Repository, serving

LABELS, SEEDS = [0, 1, 2, 2, 0, 3, 1, 0, 1], list(range(20, 29))
WEIGHTS = save({"weight": torch.arange(100_000.0)})
OPEN = {
    "vq_ds16_c2i.pt": b"sixteen",
    "vq_ds8_c2i.pt": b"eight",
    "c2i/B.pt": b"deep",
    "README.md": b"#",
}
FOLDER = {"config.json": b'{"heads": 4}', "model.safetensors": WEIGHTS, "optimizer.pt": b"other"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server, with an empty cache, online."""
    repositories = {
        "owner/open": Repository(dict(OPEN)),
        "owner/folder": Repository(dict(FOLDER)),
        "owner/one": Repository({"weights.bin": b"one", "README.md": b"#"}),
        "owner/bare": Repository({"sub/model.safetensors": WEIGHTS}),
        "owner/none": Repository({"README.md": b"#"}),
        "owner/gated": Repository({"weights.bin": b"gated"}, token="secret", gated=True),
        "owner/private": Repository({"weights.bin": b"private"}, token="secret"),
    }
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks LFS
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 1, raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(repositories) as hub:
        point_at(hub.url, monkeypatch)
        yield hub
    huggingface_hub.close_session()


def point_at(url, monkeypatch):
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
