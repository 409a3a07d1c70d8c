"""The reference is that of the code, and every public function tells what the reference needs."""

import inspect
import re

import pytest

import api_page

FUNCTIONS = {
    f"{module.__name__}.{name}": value
    for module in api_page.public_modules()
    for name, value in api_page.public_names(module)
    if inspect.isfunction(value)
}

# Doctests cannot run where an extra is missing; `verify` is in the example of `package`.
SHOWN_ELSEWHERE = {"masslib.export.onnx", "masslib.export.openvino", "masslib.packaging.verify"}


def test_the_committed_page_is_current():
    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.page(), "run `make docs`"


def test_the_page_does_not_hang_on_the_machine():
    assert not re.search(r"0x[0-9a-f]{6}|<function|<class|site-packages", api_page.page())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_tell_arguments_results_and_an_example(name):
    signature = inspect.signature(FUNCTIONS[name])
    parts = api_page.sections(inspect.getdoc(FUNCTIONS[name]) or "")
    told = re.findall(r"^\*{0,2}(\w+)(?: \([^)]*\))?: ", "\n".join(parts.get("Args", [])), re.M)
    assert told == list(signature.parameters)
    assert parts[""][0].endswith(".")
    if signature.return_annotation not in (None, "None"):
        assert {"Returns", "Yields"} & parts.keys()
    if signature.parameters and name not in SHOWN_ELSEWHERE:
        assert {"Example", "Examples"} & parts.keys()


def render(docstring):
    def function(first: int, *, second: "list[int]" = (), **rest: int) -> "int": ...

    function.__doc__ = docstring
    return "\n".join(api_page._entry("module.function", function, 3))


def test_a_docstring_becomes_markdown():
    page = render("""Do it.

    In more words.

    Args:
        first: One
            that goes on.
        **rest: Others.

    Returns:
        A number.

    Example:
        >>> 1 + 1
        2
    """)
    assert page.startswith("### module.function\n\n```python\nfunction(first: int, *, second: list[int] = (), **rest")
    assert "Do it.\n\nIn more words.\n" in page
    assert "\n**Args**\n\n- `first`: One\n    that goes on.\n- `**rest`: Others.\n" in page
    assert page.endswith("**Returns**\n\nA number.\n\n**Example**\n\n```python\n>>> 1 + 1\n2\n```")
