"""What to look at when the broker cannot be reached, for those who read the log at night."""

import re

_ADVICE = {
    r"Connection refused": "nothing listens there: is the broker running, and is the port right?",
    r"not known|name resolution|No address": "check the host's name, and this machine's network and DNS",
    r"timed out|No route|unreachable|no answer to CONNECT": "check the host, its network and its firewall",
    r"WRONG_VERSION_NUMBER": "nobody speaks TLS there: use mqtt://, or the port for TLS",
    r"not yet valid|has expired": "check this machine's clock, then the broker's certificate",
    r"mismatch|not valid for": "the broker's certificate is for another host: mend url or the certificate",
    r"CERTIFICATE_VERIFY_FAILED": "set ca_file to the authority that signed the broker's certificate",
    r"reset by peer|connection lost": "if that port is for TLS, use mqtts://",
    r"Not authorized|Bad user name": "check username and password_file, and the broker's list of users",
}


def advised(reason: str) -> str:
    """The reason, and what to do about it where that is known."""
    for pattern, advice in _ADVICE.items():
        if re.search(pattern, reason):
            return f"{reason}; {advice}"
    return reason
