"""What `midge` changed of the broker's accounts, handed to the broker that runs."""

from collections.abc import Callable

from deploy.home.bundle import withdraw_tokens
from deploy.home.home import TOKENS, Home
from deploy.trust.brokerfile import BrokerFile
from host.errors import MidgeError

Say = Callable[[str, str], None]


def hand_over_tokens(home: Home, file: BrokerFile) -> int:
    """Have the broker know the tokens' accounts of now; its process id. Raises MidgeError."""
    try:
        file.take_accounts(home.broker / TOKENS)
    except OSError as error:
        raise MidgeError(f"{error.filename} cannot be written: {error.strerror}") from None
    return file.reload()


def withdraw(home: Home, file: BrokerFile | None, device: str, say: Say) -> int:
    """Withdraw a device's unused tokens, and tell the broker; how many there were.

    A broker that does not hear of it lets their bearer connect, and the registrar refuses him.
    """
    withdrawn = withdraw_tokens(home, device)
    if not withdrawn:
        return 0
    say("token", f"{withdrawn} of {device} that nobody used: withdrawn")
    if file is not None:
        try:
            hand_over_tokens(home, file)
        except MidgeError as error:
            say("token", f"its account is closed when the broker reads its accounts again: {error}")
    return withdrawn
