"""What pip's settings become when uv does the work."""

from install import uv_environment


def test_without_settings_uv_gets_none():
    assert uv_environment("") == {}


def test_settings_are_handed_over_and_the_environment_goes_first():
    settings = r"""
:env:.index-url='https://mirror/simple'
global.index-url='https://other/simple'
global.extra-index-url='https://a/simple\nfile:///b/simple'
global.find-links='/wheels /more'
global.cert='/etc/ca.crt'
global.timeout='60'
global.disable-pip-version-check='1'
list.format='columns'
""".strip()
    assert uv_environment(settings) == {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://a/simple file:///b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_a_setting_without_translation_leaves_the_work_to_pip():
    assert uv_environment("install.constraint='limits.txt'") is None
