import os

import pytest

from host.quiet import stderr_closed


def test_nothing_reaches_stderr_while_it_is_closed(capfd: pytest.CaptureFixture[str]) -> None:
    with stderr_closed():
        os.write(2, b"from native code")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_stderr_is_back_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), stderr_closed():
        raise ValueError("broken")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
