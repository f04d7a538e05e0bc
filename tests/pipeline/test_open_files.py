"""Every request in flight is an open file: enough of them are there, or the run says so."""

import resource

import pytest

from batcher.errors import ConfigurationError
from batcher.wiring.process import allow_connections

FILES = resource.RLIMIT_NOFILE


@pytest.fixture(autouse=True)
def few_files():
    usual = resource.getrlimit(FILES)
    resource.setrlimit(FILES, (256, usual[1]))
    yield
    resource.setrlimit(FILES, usual)


def test_the_usual_concurrency_changes_nothing():
    allow_connections(64)
    assert resource.getrlimit(FILES)[0] == 256


def test_a_larger_concurrency_raises_the_limit_as_far_as_it_needs():
    allow_connections(1_000)
    assert resource.getrlimit(FILES)[0] == 1_128


def test_more_than_the_system_allows_is_refused_before_anything_is_sent():
    with pytest.raises(
        ConfigurationError, match=r"this process may have .*: lower it, or raise"
    ):
        allow_connections(2**40)
