"""The kernel's command line, a file of one line on the boot partition."""

# Without it a Raspberry Pi's kernel does not hold services to their memory limits.
MEMORY_LIMITS = "cgroup_enable=memory"
_INSTANCE = "ds=nocloud;i="
_TURNED_OFF = "cgroup_disable=memory"


def with_memory_limits(line: str) -> str:
    """The line with the kernel's memory limits turned on; all else as it was."""
    words = [word for word in line.split() if word not in (MEMORY_LIMITS, _TURNED_OFF)]
    return _joined([*words, MEMORY_LIMITS])


def with_instance(line: str, instance: str) -> str:
    """The line with the name under which cloud-init knows this first boot."""
    return _joined(
        [*(word for word in line.split() if not word.startswith("ds=nocloud")), _INSTANCE + instance]
    )


def _joined(words: list[str]) -> str:
    return " ".join(words) + "\n"
