"""A server for the tests of stores, and a cache of their own."""

from functools import lru_cache

import pytest
from fixtures.object_server import environment, object_server

from schemas.file_cache import DEFAULT_GIGABYTES, limit_cache


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that speaks S3, to which ``s3://`` leads."""
    with object_server() as running:
        for name, value in environment(running.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LAMP_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        from schemas import locations, stores

        monkeypatch.setattr(locations, "_LISTINGS", locations.Listings())  # names of another test's server
        limit_cache(DEFAULT_GIGABYTES)
        with pytest.MonkeyPatch.context() as own:
            # The server of the test before is gone, and a thread of that test may be opening a store of it just now.
            own.setattr(stores, "_opened", lru_cache(maxsize=16)(stores._opened.__wrapped__))
            yield running
        limit_cache(DEFAULT_GIGABYTES)
