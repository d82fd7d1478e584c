"""A server for the tests of stores, and a cache of their own."""

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
        stores._opened.cache_clear()  # the server of the test before is gone
        limit_cache(DEFAULT_GIGABYTES)
        yield running
        stores._opened.cache_clear()
        limit_cache(DEFAULT_GIGABYTES)
