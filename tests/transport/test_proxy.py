"""Which proxy leads to an address, and what is known before anything is sent there."""

import pytest

from batcher.errors import ConfigurationError
from batcher.transport.endpoint import Auth, Endpoint, Proxy, Route, check_route
from batcher.transport.proxy import route_to

API = "https://api.example.com"
PROXY = "http://proxy.example.com:3128"


def proxy_of(url=API, setting="environment", **environment):
    route = route_to(url, setting, environment)
    return route.proxy.url if route.proxy else None


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": PROXY}, API, PROXY),
        ({"https_proxy": PROXY}, API, PROXY),
        ({"HTTP_PROXY": PROXY}, API, None),
        ({"HTTP_PROXY": PROXY}, "http://api.example.com", PROXY),
        ({"ALL_PROXY": PROXY}, API, PROXY),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, API, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, API, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, API, None),
        ({"HTTPS_PROXY": "proxy.example.com:3128"}, API, PROXY),
        ({"HTTPS_PROXY": "http://proxy.example.com"}, API, "http://proxy.example.com:80"),
        ({"HTTPS_PROXY": "https://proxy.example.com"}, API, "https://proxy.example.com:443"),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, API, "http://[fd00::1]:3128"),
        ({"HTTPS_PROXY": PROXY}, "https://127.0.0.1:9", None),
        ({"HTTPS_PROXY": PROXY}, "https://localhost:9", None),
        ({"HTTPS_PROXY": PROXY}, "https://[::1]:9", None),
    ],
)
def test_variables_name_the_proxy_as_curl_and_python_read_them(environment, url, expected):
    assert proxy_of(url, **environment) == expected


@pytest.mark.parametrize(
    ("exempt", "url", "direct"),
    [
        ("*", API, True),
        ("api.example.com", API, True),
        ("API.example.COM", API, True),
        ("example.com", API, True),
        (".example.com", API, True),
        ("*.example.com", API, True),
        ("ample.com", API, False),
        ("other.com, example.com", API, True),
        ("other.com example.com", API, True),
        ("api.example.com:443", API, True),
        ("api.example.com:8443", API, False),
        ("example.com:8443", "https://api.example.com:8443", True),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3:8443", "https://10.1.2.3:8443", True),
        ("10.1.2.3:8443", "https://10.1.2.3", False),
        ("fd00::/8", "https://[fd00::1]", True),
        ("[fd00::1]:443", "https://[fd00::1]", True),
        ("", API, False),
        (" , ,", API, False),
    ],
)
def test_no_proxy_exempts_hosts(exempt, url, direct):
    assert (proxy_of(url, HTTPS_PROXY=PROXY, NO_PROXY=exempt) is None) == direct


def test_no_proxy_in_lower_case_wins():
    environment = {"HTTPS_PROXY": PROXY, "no_proxy": "", "NO_PROXY": "*"}
    assert proxy_of(**environment) == PROXY


@pytest.mark.parametrize(
    ("setting", "expected"), [("none", None), ("http://own:8080", "http://own:8080")]
)
def test_a_setting_wins_over_variables(setting, expected):
    assert proxy_of(setting=setting, HTTPS_PROXY=PROXY, NO_PROXY="*") == expected


@pytest.mark.parametrize(
    "value",
    [
        "socks5://proxy:1080",
        "socks5h://u:secret@proxy",
        "ftp://proxy",
        "http://",
        "http://p:port",
    ],
)
def test_what_is_no_http_proxy_is_refused_without_being_repeated(value):
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as refused:
        proxy_of(HTTPS_PROXY=value)
    assert "secret" not in str(refused.value)


def test_credentials_are_in_no_sentence():
    route = route_to(API, "http://user:p%40ss@proxy:3128", {})
    assert route.proxy.authorization.reveal() == "Basic dXNlcjpwQHNz"
    assert "p%40ss" not in f"{route!r} {route.words}"
    assert "dXNlcjpwQHNz" not in f"{route!r} {route.words}"


def test_words_name_what_decided():
    assert route_to(API, "environment", {"HTTPS_PROXY": PROXY}).words == (
        f"through proxy {PROXY} (HTTPS_PROXY)"
    )
    exempt = {"HTTPS_PROXY": PROXY, "no_proxy": "example.com"}
    assert "no_proxy names api.example.com" in route_to(API, "environment", exempt).words


def test_a_key_goes_through_no_proxy_to_plain_http():
    endpoint = Endpoint(
        name="e", base_url="http://api.example.com", route=Route(proxy=Proxy(url=PROXY))
    )
    with pytest.raises(ConfigurationError, match="would see the key"):
        check_route(endpoint)
    check_route(
        Endpoint(name="e", base_url=endpoint.base_url, auth=Auth.NONE, route=endpoint.route)
    )
