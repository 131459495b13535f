import pytest

from host import errors
from host.exits import ExitCode


def test_every_exit_code_has_a_line_of_help_and_a_number_of_its_own() -> None:
    assert len({int(code) for code in ExitCode}) == len(ExitCode.__members__)
    for code in ExitCode:
        assert code.help.endswith(".")
        assert "\n" not in code.help


@pytest.mark.parametrize("code", list(ExitCode))
def test_exit_codes_are_numbers_that_a_process_can_end_with(code: ExitCode) -> None:
    # From 126 on a shell means something else by them.
    assert 0 <= code < 126
    with pytest.raises(SystemExit) as left:
        raise SystemExit(code)
    assert left.value.code == code


def test_the_numbers_are_those_of_sysexits() -> None:
    assert (ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE) == (0, 1, 2)
    assert (ExitCode.BAD_DATA, ExitCode.UNREACHABLE) == (65, 69)
    assert (ExitCode.REFUSED_CREDENTIALS, ExitCode.BAD_CONFIG) == (77, 78)


def test_every_error_raised_on_purpose_is_a_midge_error_and_stands_in_the_tree() -> None:
    tree = errors.MidgeError.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        assert issubclass(kind, errors.MidgeError)
        assert kind.__doc__
        assert kind is errors.MidgeError or kind.__name__ in tree
