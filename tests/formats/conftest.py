"""A hub that is not there: `huggingface_hub` takes a server of this process for it."""

import pytest

from sksae.formats import from_pretrained
from tests.formats.fake_hub import FakeHub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub without repositories, which `huggingface_hub` takes for the real one."""
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    server = FakeHub(tmp_path / "hub")
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    yield server
    server.close()


@pytest.fixture
def get(hub, tmp_path):
    """`from_pretrained` with a cache of this test."""
    return lambda *args, **options: from_pretrained(*args, cache_dir=tmp_path / "cache", **options)
