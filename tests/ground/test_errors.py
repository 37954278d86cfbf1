"""Which errors end in one line."""

import errno

import pytest

from gan.errors import DataError, UserError, is_users


@pytest.mark.parametrize(
    ("error", "theirs"),
    [
        (UserError("no such set"), True),
        (DataError("damaged"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (FileNotFoundError(errno.ENOENT, "No such file", "params.yaml"), True),
        (OSError("what a library says of itself"), False),
        (ValueError("a defect"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_a_user_can_mend_what_has_a_way_out_or_comes_from_the_system(error, theirs):
    assert is_users(error) is theirs
