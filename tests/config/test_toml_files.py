"""Settings files as editors write them, and what their authors expect of variables."""

import codecs

import pytest

from batcher.config.files import read_toml
from batcher.config.tables import ConfigFile
from batcher.errors import ConfigurationError

TEXT = 'model = "claude-haiku-4-5"\nsystem = "Say ä in ${LANGUAGE}"\n'


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.replace("\n", "\r\n").encode(),
    ],
)
def test_every_encoding_that_says_what_it_is_is_understood(tmp_path, data):
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    found = read_toml(path, ConfigFile)
    assert (found.model, found.system) == ("claude-haiku-4-5", "Say ä in ${LANGUAGE}")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('database = "postgresql://me:${PASSWORD}@db/x"', "database"),
        ('[endpoints.mine]\nbase_url = "https://${HOST}/v1"', "endpoints.mine.base_url"),
    ],
)
def test_a_variable_that_nobody_fills_in_is_refused(tmp_path, line, named):
    path = tmp_path / "config.toml"
    path.write_text(line)
    with pytest.raises(ConfigurationError, match=r"holds a \$\{VARIABLE\}") as caught:
        read_toml(path, ConfigFile)
    assert named in str(caught.value)
    assert "PASSWORD" not in str(caught.value)


def test_a_program_that_prints_the_key_may_have_variables_of_its_own(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[endpoints.mine]\napi_key_command = ["sh", "-c", "cat ${KEYS}/mine"]\n')
    found = read_toml(path, ConfigFile)
    assert found.endpoints["mine"].api_key_command == ("sh", "-c", "cat ${KEYS}/mine")
